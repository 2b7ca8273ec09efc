//! `headcount dead-letters`: page views that the database refused, and what becomes of them.

use clap::{Args, Subcommand};

use super::{Failure, block_on, print_line};
use crate::batch::BatchKey;
use crate::config::Config;
use crate::printable::{counted, one_line};
use crate::writer::spool::letters::{DeadLetter, LetterAction};
use crate::writer::spool::{Directory, SpoolError};

#[derive(Debug, Subcommand)]
pub(super) enum DeadLettersCommand {
    /// List them: name, when it was seen, by whom, what, and why it was refused.
    List {
        /// One JSON object a line, with everything that is known of it.
        #[arg(long)]
        json: bool,
    },
    /// Have them tried again, by the running sidecar within seconds, or by the next that starts.
    Retry(DeadLetterArgs),
    /// Delete them.
    Drop(DeadLetterArgs),
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct DeadLetterArgs {
    /// Names, as `list` prints them.
    #[arg(value_name = "NAME", value_parser = parse_key)]
    names: Vec<BatchKey>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

fn parse_key(text: &str) -> Result<BatchKey, String> {
    BatchKey::parse(text)
        .ok_or_else(|| "is not the name of a dead letter; see `headcount dead-letters list`".into())
}

pub(super) fn run(config: &Config, command: DeadLettersCommand) -> Result<(), Failure> {
    if !config.spool.dir.exists() {
        print_line(format_args!(
            "no dead letters: there is no spool in {} (spool.dir)",
            config.spool.dir.display()
        ));
        return Ok(());
    }
    let directory = Directory::prepare(&config.spool).map_err(|error| Failure::Usage(error.to_string()))?;
    match command {
        DeadLettersCommand::List { json } => list(&directory, json),
        DeadLettersCommand::Retry(which) => decide(&directory, LetterAction::Retry, &which),
        DeadLettersCommand::Drop(which) => decide(&directory, LetterAction::Drop, &which),
    }
}

fn list(directory: &Directory, json: bool) -> Result<(), Failure> {
    let letters = block_on(directory.dead_letters())?.map_err(|error| unusable(directory, &error))?;
    for letter in &letters {
        if json {
            print_line(as_json(letter));
        } else {
            print_line(as_text(letter));
        }
    }
    if letters.is_empty() && !json {
        print_line("no dead letters");
    }
    Ok(())
}

fn unusable(directory: &Directory, error: &SpoolError) -> anyhow::Error {
    anyhow::Error::msg(directory.explain(error))
}

fn as_text(letter: &DeadLetter) -> String {
    let view = letter.view.as_ref().map_or_else(
        || "(damaged)".into(),
        |recorded| {
            let at = recorded.view.at.format("%Y-%m-%dT%H:%M:%SZ");
            format!("{at}  user {}  {}", recorded.user_id, recorded.view.url)
        },
    );
    // One line each, whatever was in it.
    one_line(&format!("{}  {view}  {}", letter.key, letter.reason))
}

fn as_json(letter: &DeadLetter) -> serde_json::Value {
    serde_json::json!({
        "name": letter.key.to_string(),
        "refused_at": letter.refused_at,
        "reason": letter.reason,
        "view": letter.view,
    })
}

fn decide(directory: &Directory, fate: LetterAction, which: &DeadLetterArgs) -> Result<(), Failure> {
    let keys = (!which.all).then_some(&which.names[..]);
    let decided = block_on(directory.decide(fate, keys))?.map_err(|error| unusable(directory, &error))?;
    let done = match fate {
        LetterAction::Retry => "to be tried again",
        LetterAction::Drop => "deleted",
    };
    print_line(format_args!("{decided} {done}"));
    let missing = keys.map_or(0, |keys| (keys.len() as u64).saturating_sub(decided));
    if missing > 0 {
        return Err(Failure::Usage(format!(
            "{}; see `headcount dead-letters list`",
            counted(
                missing,
                "of the names is not that of a dead letter",
                "of the names are not those of dead letters"
            )
        )));
    }
    Ok(())
}
