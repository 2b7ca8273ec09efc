//! `headcount api-key`: a new key for a server, and what `check` says of those that are configured.

use clap::{Subcommand, ValueEnum};

use super::{Failure, print_line};
use crate::auth::api_keys::new_key;
use crate::config::{self, Config, KeyHash, KeyScope, PlacedKeys};
use crate::key_type::AppKeys;
use crate::printable::counted;
use crate::reload::ApiKeyFile;

#[derive(Debug, Subcommand)]
pub(super) enum ApiKeyCommand {
    /// Make a random key: print it, this once, and the lines to paste, which hold its SHA-256 alone.
    New {
        /// Its name in logs and metrics: that of the server, or of what it is for.
        #[arg(value_parser = parse_name)]
        name: String,
        /// What it may be used for; may be given twice.
        #[arg(long = "scope", value_enum, default_value = "counts")]
        scopes: Vec<NamedScope>,
    },
}

/// A scope as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NamedScope {
    /// How many are where.
    Counts,
    /// Who they are.
    Identities,
}

impl NamedScope {
    fn scope(self) -> KeyScope {
        match self {
            Self::Counts => KeyScope::Counts,
            Self::Identities => KeyScope::Identities,
        }
    }
}

fn parse_name(text: &str) -> Result<String, &'static str> {
    if config::is_api_key_name(text) {
        Ok(text.into())
    } else {
        Err("must be 1 to 64 letters, digits, '.', '_' or '-'")
    }
}

pub(super) fn run(command: ApiKeyCommand) {
    let ApiKeyCommand::New { name, scopes } = command;
    let key = new_key();
    let scopes: Vec<_> = KeyScope::ALL
        .into_iter()
        .filter(|scope| scopes.iter().any(|named| named.scope() == *scope))
        .map(|scope| format!("\"{}\"", scope.name()))
        .collect();
    print_line(format_args!(
        "# The key, printed this once. It belongs where the server keeps its secrets, and nowhere else:\n\
         #   {key}\n\
         # The server sends it as   Authorization: Bearer {}…\n\
         #\n\
         # For headcount.toml, or, as [[key]], for the file that api.key_file names:\n\
         [[api.key]]\n\
         name = \"{name}\"\n\
         sha256 = \"{}\"\n\
         scopes = [{}]",
        config::KEY_PREFIX,
        KeyHash::of(key.as_bytes()),
        scopes.join(", ")
    ));
}

/// Whether each community that a key names can be one of the database's, where the types of its keys are known.
///
/// # Errors
/// One cannot.
pub(super) fn check_communities(config: &Config, keys: AppKeys) -> Result<(), Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    let file = ApiKeyFile::read(&config.api).map_err(|error| usage(&error))?;
    file.map_or(Ok(()), |file| {
        file.check_against(keys).map_err(|error| usage(&error))
    })
}

/// What `check` prints of the keys of a configuration that is valid.
pub(super) fn check(settings: &config::Api) {
    let Ok(PlacedKeys { keys, .. }) = settings.keys() else {
        // Its file was valid a moment ago.
        return;
    };
    if let Some(path) = &settings.key_file {
        let keys = counted(keys.len(), "API key is", "API keys are");
        print_line(format_args!("{}: {keys} valid", path.display()));
    }
    for remark in settings.remarks_on_keys(&keys, chrono::Utc::now()) {
        print_line(format_args!("warning: {remark}"));
    }
}
