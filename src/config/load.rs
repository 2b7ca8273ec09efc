//! Loads the configuration: the file, then environment variables over it, then secrets from files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::{ConfigError, Place};
use super::{Config, Secret, validate};

/// Every variable with this prefix overrides a key: `HEADCOUNT__DATABASE__URL`.
const PREFIX: &str = "HEADCOUNT__";
/// The sections of the configuration.
pub(super) const SECTIONS: [&str; 15] = [
    "listen", "upstream", "database", "redis", "session", "schema", "routes", "record", "spool", "api",
    "live", "widget", "limits", "privacy", "log",
];

/// A configuration file's text, kept to find the line of a key.
pub(super) struct Source {
    path: PathBuf,
    text: String,
    /// Dotted key → variable name.
    overridden: BTreeMap<String, String>,
}

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
            place: Place::Variable(name),
            key: None,
            problem: "is not valid UTF-8; write it as text".into(),
        }),
    })
    .collect()
}

/// Variables that look like ours and are not read, each with a sentence that says how to spell it: a section with
/// single underscores (`HEADCOUNT_DATABASE_URL`). Others with this prefix may belong to another program.
pub fn misspelt(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<String> {
    let told = environment.into_iter().filter_map(|(name, _)| {
        let name = name.into_string().ok()?;
        let rest = name.strip_prefix("HEADCOUNT_")?;
        let (section, key) = rest.split_once('_')?;
        // Kubernetes describes a service `headcount-redis` by such names.
        if key.starts_with("PORT") || key.starts_with("SERVICE_") {
            return None;
        }
        let is_section = SECTIONS.contains(&section.to_ascii_lowercase().as_str());
        let key = key.trim_start_matches('_');
        is_section.then(|| {
            format!("{name} is not read; two underscores part section and key: {PREFIX}{section}__{key}")
        })
    });
    told.collect()
}

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
            place: Place::File(path.into(), None),
            key: None,
            problem: format!("cannot be read ({error}); name another file with --config"),
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
        // The file alone first: its errors have lines.
        let mut config = source.typed()?;
        let variables: BTreeMap<_, _> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        if !variables.is_empty() {
            config = source.with_variables(&variables)?;
        }
        source.resolve(&mut config)?;
        validate::validate(&config).map_err(|(key, problem)| source.error_at(key, problem))?;
        Ok(config)
    }
}

impl Source {
    /// Parses the file.
    fn typed(&self) -> Result<Config, ConfigError> {
        let document = toml::Deserializer::parse(&self.text).map_err(|e| self.toml_error(None, &e))?;
        serde_path_to_error::deserialize(document).map_err(|error| {
            let path = error.path().to_string();
            let key = (path != ".").then_some(path);
            self.toml_error(key, error.inner())
        })
    }

    fn toml_error(&self, key: Option<String>, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map(|span| line_of(&self.text, span.start));
        ConfigError {
            place: Place::File(self.path.clone(), line),
            key,
            problem: in_words(error),
        }
    }

    /// The file with variables over it. A variable is parsed as TOML where it is valid TOML and its key takes that (a
    /// number, a list), and is text otherwise: a prefix `2024` is text.
    fn with_variables(&mut self, variables: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
        let mut table: Table = toml::from_str(&self.text).map_err(|e| self.toml_error(None, &e))?;
        let mut typed: BTreeMap<String, (Vec<String>, &String)> = BTreeMap::new();
        for (name, text) in variables {
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
            let is_typed = !value.is_str();
            if keys.len() < 2 || !set(&mut table, &keys, value) {
                return Err(ConfigError {
                    place: Place::Variable(name.clone()),
                    key: Some(keys.join(".")),
                    problem: "names no key; write HEADCOUNT__SECTION__KEY".into(),
                });
            }
            self.overridden.insert(keys.join("."), name.clone());
            if is_typed {
                typed.insert(keys.join("."), (keys, text));
            }
        }
        let read = |table: &Table| {
            serde_path_to_error::deserialize(Value::Table(table.clone()))
                .map_err(|error| (error.path().to_string(), in_words(error.inner())))
        };
        let mut result = read(&table);
        // Each round reads one variable fewer as TOML.
        while let Err((key, problem)) = &result {
            let Some((keys, text)) = typed.remove(key) else {
                break;
            };
            set(&mut table, &keys, Value::String(text.clone()));
            let as_text = read(&table);
            if as_text.as_ref().is_err_and(|(again, _)| again == key) {
                // The key takes neither; the error about the TOML says more.
                result = Err((key.clone(), problem.clone()));
                break;
            }
            result = as_text;
        }
        result.map_err(|(key, problem)| self.error_at(key, problem))
    }

    /// Makes paths relative to the configuration file, and reads secrets from their files.
    fn resolve(&self, config: &mut Config) -> Result<(), ConfigError> {
        let base = self.path.parent().unwrap_or(Path::new(""));
        config.routes.dir = base.join(&config.routes.dir);
        for listener in &mut config.listen.https {
            listener.certificate = base.join(&listener.certificate);
            listener.key = base.join(&listener.key);
        }
        config.spool.dir = base.join(&config.spool.dir);
        let upgrade = config.listen.upgrade_socket.as_deref();
        config.listen.upgrade_socket = Some(base.join(upgrade.unwrap_or(Path::new("upgrade.sock"))));
        if let Some(path) = &mut config.record.geoip_database {
            *path = base.join(&*path);
        }
        let redis = &mut config.redis;
        for path in [
            &mut redis.tls_ca_file,
            &mut redis.tls_cert_file,
            &mut redis.tls_key_file,
        ]
        .into_iter()
        .flatten()
        {
            *path = base.join(&*path);
        }
        let database = &mut config.database;
        for (key, secret, file) in [
            ("database.url", &mut database.url, &database.url_file),
            (
                "database.direct_url",
                &mut database.direct_url,
                &database.direct_url_file,
            ),
            ("redis.url", &mut redis.url, &redis.url_file),
            ("redis.password", &mut redis.password, &redis.password_file),
            (
                "redis.sentinel_password",
                &mut redis.sentinel_password,
                &redis.sentinel_password_file,
            ),
        ] {
            self.secret(key, base, secret, file.as_deref())?;
        }
        Ok(())
    }

    /// Reads the secret for `key` from the file that `key` with `_file` names.
    fn secret(
        &self,
        key: &str,
        base: &Path,
        secret: &mut Option<Secret>,
        file: Option<&Path>,
    ) -> Result<(), ConfigError> {
        let Some(file) = file else { return Ok(()) };
        let file_key = format!("{key}_file");
        if secret.is_some() {
            return Err(self.error_at(file_key, format!("{key} is set too; keep one of the two")));
        }
        let path = base.join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            self.error_at(
                file_key.clone(),
                format!("{} cannot be read ({error})", path.display()),
            )
        })?;
        if text.trim().is_empty() {
            let what = key.rsplit(['.', '_']).next().unwrap_or(key);
            let what = if what == "url" { "URL" } else { what };
            return Err(self.error_at(
                file_key,
                format!("{} is empty; it must hold the {what}", path.display()),
            ));
        }
        *secret = Some(Secret::new(text.trim()));
        Ok(())
    }

    /// An error about one key, placed where the key was written.
    fn error_at(&self, key: String, problem: String) -> ConfigError {
        let place = self
            .overridden
            .iter()
            .find(|(overridden, _)| key == **overridden || key.starts_with(&format!("{overridden}[")))
            .map(|(_, variable)| Place::Variable(variable.clone()))
            .or_else(|| {
                self.line_of_key(&key)
                    .map(|line| Place::File(self.path.clone(), Some(line)))
            })
            .unwrap_or_else(|| Place::File(self.path.clone(), None));
        ConfigError {
            place,
            key: Some(key),
            problem,
        }
    }

    /// The line of a dotted key, or of the nearest table above it in the file.
    fn line_of_key(&self, key: &str) -> Option<usize> {
        let document = toml_edit::Document::parse(self.text.as_str()).ok()?;
        let mut item = document.as_item();
        let mut line = None;
        for part in key.split('.') {
            let name = part.split('[').next().unwrap_or(part);
            let Some(table) = item.as_table_like() else { break };
            let Some((key, next)) = table.get_key_value(name) else {
                break;
            };
            line = key
                .span()
                .or_else(|| next.span())
                .map(|span| line_of(&self.text, span.start))
                .or(line);
            item = next;
        }
        line
    }
}

/// A parser's message on one line, with an example for durations and sizes.
fn in_words(error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', "; ");
    for (end, example) in [
        ("expected a duration", "expected a duration, for example \"5s\""),
        (
            "expected parsable string",
            "expected a size, for example \"64KiB\"",
        ),
    ] {
        if let Some(start) = message.strip_suffix(end) {
            return format!("{start}{example}");
        }
    }
    message
}

/// Line number, from 1, of a byte offset.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
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
