//! Rules for a section's values beyond their types: what each section implements, and the checks that several share.

use std::fmt::Display;
use std::time::Duration;

use super::files::ConfigFolder;

/// Whether a rule holds. The error is the dotted key, and the problem with its remedy.
pub(super) type Checked = Result<(), (String, String)>;

/// A section of the configuration.
pub(super) trait Section {
    /// Makes paths relative to the configuration file's folder, and reads secrets from their files.
    fn resolve(&mut self, _files: &ConfigFolder) -> Checked {
        Ok(())
    }

    /// Checks the section by itself. The first rule that is broken is reported.
    fn check(&self) -> Checked {
        Ok(())
    }
}

/// Reports `problem` with `key` unless the rule holds.
pub(super) fn ensure(holds: bool, key: &str, problem: impl Into<String>) -> Checked {
    if holds {
        Ok(())
    } else {
        Err((key.into(), problem.into()))
    }
}

/// Refuses values below `least` and above `most`.
pub(super) fn within<T: PartialOrd + Display + Copy>(key: &str, value: T, least: T, most: T) -> Checked {
    ensure(
        (least..=most).contains(&value),
        key,
        format!("is {value}, must be from {least} to {most}"),
    )
}

/// Refuses values above `most`.
pub(super) fn at_most<T: PartialOrd + Display + Copy>(key: &str, value: T, most: T) -> Checked {
    ensure(value <= most, key, format!("is {value}, must be at most {most}"))
}

/// Refuses zero.
pub(super) fn at_least_one<T: PartialOrd + From<u8> + Copy>(key: &str, value: T) -> Checked {
    ensure(value >= T::from(1), key, "must be at least 1")
}

/// Refuses zero durations, which would make every wait fail at once.
pub(super) fn positive(durations: &[(&str, Duration)]) -> Checked {
    durations.iter().try_for_each(|(key, duration)| {
        ensure(
            !duration.is_zero(),
            key,
            "must be longer than zero, for example \"5s\"",
        )
    })
}

/// Refuses durations of less than a second.
pub(super) fn at_least_a_second(durations: &[(&str, Duration)]) -> Checked {
    durations
        .iter()
        .try_for_each(|(key, duration)| ensure(duration.as_secs() >= 1, key, "must be at least \"1s\""))
}
