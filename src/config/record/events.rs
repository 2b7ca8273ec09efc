//! `record.events`: where page views are written.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Where page views are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    /// `"app"` or `true`: into the app's event table.
    App,
    /// `"own"`: into a table that `headcount migrate` makes.
    Own,
    /// `false`: nowhere.
    Off,
}

/// By hand: text or a boolean.
impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Where;

        impl Visitor<'_> for Where {
            type Value = Events;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"app\", \"own\" or false")
            }

            fn visit_bool<E: Error>(self, are_written: bool) -> Result<Events, E> {
                Ok(if are_written { Events::App } else { Events::Off })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Events, E> {
                match text {
                    "app" => Ok(Events::App),
                    "own" => Ok(Events::Own),
                    other => Err(E::unknown_variant(other, &["app", "own", "false"])),
                }
            }
        }

        deserializer.deserialize_any(Where)
    }
}
