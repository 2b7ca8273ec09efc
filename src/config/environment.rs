//! Environment variables over the configuration file: `HEADCOUNT__SECTION__KEY`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use toml::{Table, Value};

use super::Config;
use super::error::{ConfigError, SetBy};
use super::source::{Source, typed};

/// Every variable with this prefix overrides a key: `HEADCOUNT__DATABASE__URL`.
const PREFIX: &str = "HEADCOUNT__";

/// The environment as [`Config::load`] takes it. Other programs' variables may hold any bytes.
///
/// # Errors
/// One of ours is not valid UTF-8.
pub fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let ours = environment.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with(PREFIX).then_some((name, value))
    });
    ours.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(ConfigError {
            set_by: SetBy::Variable(name),
            key: None,
            problem: "is not valid UTF-8; write it as text".into(),
        }),
    })
    .collect()
}

/// Variables that look like ours and are not read, each with a sentence that says how to spell it: a section with
/// single underscores (`HEADCOUNT_DATABASE_URL`). Others with this prefix may belong to another program.
pub fn misspelt(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<String> {
    let mut config = Config::default();
    let sections = config.sections().map(|(name, _)| name);
    let told = environment.into_iter().filter_map(|(name, _)| {
        let name = name.into_string().ok()?;
        let rest = name.strip_prefix("HEADCOUNT_")?;
        let (section, key) = rest.split_once('_')?;
        // Kubernetes describes a service `headcount-redis` by such names.
        if key.starts_with("PORT") || key.starts_with("SERVICE_") {
            return None;
        }
        let is_section = sections.contains(&section.to_ascii_lowercase().as_str());
        let key = key.trim_start_matches('_');
        is_section.then(|| {
            format!(
                "{name} is not read; write two underscores between section and key: {PREFIX}{section}__{key}"
            )
        })
    });
    told.collect()
}

impl Source {
    /// The file with variables over it. A variable is parsed as TOML where it is valid TOML and its key takes that (a
    /// number, a list), and is text otherwise: a prefix `2024` is text.
    pub(super) fn with_variables(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        // The file is checked first without variables, since its errors have lines.
        let mut table = self.table()?;
        let file: Config = typed(&table).map_err(|(key, problem)| self.error_at(key, problem))?;
        let variables: BTreeMap<_, _> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        if variables.is_empty() {
            return Ok(file);
        }
        let mut as_toml: BTreeMap<String, (Vec<String>, &String)> = BTreeMap::new();
        for (name, text) in &variables {
            let keys: Vec<String> = name[PREFIX.len()..]
                .split("__")
                .map(str::to_ascii_lowercase)
                .collect();
            // A whole section would be quoted in the error, and there may be a password in it.
            let is_password = keys.last().is_some_and(|key| key.ends_with("password"));
            let value = if is_password {
                // A password of digits is text, too.
                Value::String(text.clone())
            } else {
                value_of(text)
            };
            let is_toml = !value.is_str();
            if keys.len() < 2 || !set(&mut table, &keys, value) {
                return Err(ConfigError {
                    set_by: SetBy::Variable(name.clone()),
                    key: Some(keys.join(".")),
                    problem:
                        "names no key; write HEADCOUNT__SECTION__KEY, for example HEADCOUNT__DATABASE__URL"
                            .into(),
                });
            }
            self.overridden.insert(keys.join("."), name.clone());
            if is_toml {
                as_toml.insert(keys.join("."), (keys, text));
            }
        }
        for keys in self.overridden.keys().cloned().collect::<Vec<_>>() {
            let other = keys
                .strip_suffix("_file")
                .map_or_else(|| format!("{keys}_file"), str::to_owned);
            if !self.overridden.contains_key(&other) {
                unset(&mut table, &other);
            }
        }
        let mut result = typed(&table);
        // Each round reads one variable fewer as TOML.
        while let Err((key, problem)) = &result {
            let Some((keys, text)) = as_toml.remove(key) else {
                break;
            };
            set(&mut table, &keys, Value::String(text.clone()));
            let as_text = typed(&table);
            if as_text.as_ref().is_err_and(|(again, _)| again == key) {
                // The key takes neither; the error about the TOML says more.
                result = Err((key.clone(), problem.clone()));
                break;
            }
            result = as_text;
        }
        result.map_err(|(key, problem)| self.error_at(key, problem))
    }
}

/// A variable's text as TOML where it is valid TOML (numbers, booleans, lists), else as plain text.
fn value_of(text: &str) -> Value {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        // A text of several lines may hold further keys.
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.into()))
}

/// Removes a nested key: a secret comes from the text or from a file, and a variable that names one replaces the other.
fn unset(table: &mut Table, path: &str) {
    match path.split_once('.') {
        None => drop(table.remove(path)),
        Some((section, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                unset(inner, rest);
            }
        }
    }
}

/// Sets a nested key, making tables on the way. False where the path is empty or runs through a value.
fn set(table: &mut Table, keys: &[String], value: Value) -> bool {
    match keys {
        [] => false,
        [key] if key.is_empty() => false,
        [key] => {
            table.insert(key.clone(), value);
            true
        }
        [key, rest @ ..] => match table
            .entry(key.clone())
            .or_insert_with(|| Value::Table(Table::new()))
        {
            Value::Table(inner) => set(inner, rest, value),
            _ => false,
        },
    }
}
