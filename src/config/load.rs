//! Loads the configuration: the file, then environment variables over it, then secrets from files.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::error::{ConfigError, SetBy};
use super::files::ConfigFolder;
use super::misplaced::IN_CONFIGURATION;
use super::rules::Section;
use super::source::Source;
use super::{Config, Counters, validate};

impl Config {
    /// Loads and validates: `path`, overridden by the given environment. The environment is a parameter so
    /// that tests need not change their own.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and remedy.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            set_by: SetBy::File(path.into(), None),
            key: None,
            problem: match error.kind() {
                ErrorKind::NotFound => format!(
                    "cannot be read ({error}); name another file with --config, or have one written: headcount init"
                ),
                _ => format!("cannot be read ({error}); name another file with --config"),
            },
        })?;
        Self::parse(path, text, environment)
    }

    /// As [`Config::load`], with the file's text already at hand.
    pub fn parse(
        path: &Path,
        text: String,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source {
            path: path.into(),
            text,
            overridden: BTreeMap::new(),
        };
        source.refuse(&IN_CONFIGURATION)?;
        let mut config = source.with_variables(environment)?;
        let files = ConfigFolder {
            folder: path.parent().unwrap_or(Path::new("")),
        };
        let resolved = config
            .sections()
            .into_iter()
            .try_for_each(|(_, section)| section.resolve(&files));
        resolved
            .and_then(|()| validate::validate(&mut config))
            .map_err(|(key, problem)| source.error_at(key, problem))?;
        for index in 0..config.api.key.len() {
            let place = source.place_of(&format!("api.key[{index}].communities"));
            config.api.key_places.push(place.unwrap_or_default());
        }
        for key in Counters::placed() {
            let place = source.place_of(&format!("counters.{key}"));
            config.counters.places.extend(place.map(|place| (key, place)));
        }
        Ok(config)
    }

    /// The sections with their names.
    pub(super) fn sections(&mut self) -> [(&'static str, &mut dyn Section); 16] {
        [
            ("listen", &mut self.listen),
            ("upstream", &mut self.upstream),
            ("database", &mut self.database),
            ("redis", &mut self.redis),
            ("session", &mut self.session),
            ("schema", &mut self.schema),
            ("routes", &mut self.routes),
            ("record", &mut self.record),
            ("spool", &mut self.spool),
            ("counters", &mut self.counters),
            ("api", &mut self.api),
            ("live", &mut self.live),
            ("widget", &mut self.widget),
            ("limits", &mut self.limits),
            ("privacy", &mut self.privacy),
            ("log", &mut self.log),
        ]
    }
}
