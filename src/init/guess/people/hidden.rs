//! Who is shown to nobody: a flag of the user, by the words of its name, in the table of users or beside it.

use super::place::{Beside, Place};
use crate::init::catalogue::{Table, is_flag};
use crate::init::guess::Guess;
use crate::store::schema::Kind;

/// Whoever has it is shown to nobody.
const HIDES: &[&str] = &[
    "hide",
    "hides",
    "hidden",
    "invisible",
    "ghost",
    "stealth",
    "incognito",
    "concealed",
    "cloaked",
];
/// Whoever lacks it is shown to nobody.
const SHOWS: &[&str] = &[
    "show", "shows", "shown", "visible", "share", "shares", "display", "displays",
];
/// What is hidden or shown.
const PRESENCE: &[&str] = &[
    "online",
    "presence",
    "status",
    "activity",
    "last",
    "seen",
    "visit",
    "visits",
    "visitor",
    "visitors",
    "whereabouts",
];
/// What may stand beside it, and changes nothing.
const FILLING: &[&str] = &[
    "is", "be", "the", "my", "me", "self", "i", "am", "user", "users", "profile", "account", "member",
    "members", "from", "to", "in", "on", "others", "everyone", "all", "list", "lists", "mode", "appear",
    "appears", "as",
];
/// What says so in other ways than a flag, or says something near it.
const NEAR: &[&str] = &["visibility", "privacy", "private", "public"];

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Hidden,
    Shown,
    /// Something near it.
    Near,
}

/// A column that says whether somebody is shown.
struct Found<'t> {
    place: Place<'t>,
    says: Says,
}

/// Reads a column's name; none where it has a word that is about something else.
fn reading(name: &str) -> Option<Says> {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(['_', '-']).filter(|word| !word.is_empty()).collect();
    let count = |of: &[&str]| words.iter().filter(|word| of.contains(*word)).count();
    let (hides, shows, presence, near) = (count(HIDES), count(SHOWS), count(PRESENCE), count(NEAR));
    let is_offline = words.contains(&"offline") && words.contains(&"appear");
    let known = hides + shows + presence + near + count(FILLING) + usize::from(is_offline);
    if known < words.len() {
        return None;
    }
    match (hides + usize::from(is_offline), shows, near) {
        (1, 0, 0) => Some(Says::Hidden),
        (0, 1, 0) if presence > 0 || words.contains(&"visible") || words.contains(&"shown") => {
            Some(Says::Shown)
        }
        (0, 0, 1) => Some(Says::Near),
        _ => None,
    }
}

/// All such columns, nearest first.
fn found<'t>(table: &'t Table, beside: &[Beside<'t>]) -> Vec<Found<'t>> {
    let here = table.columns.iter().map(Place::Here);
    let there = beside.iter().flat_map(|beside| {
        let columns = beside.table.columns.iter();
        columns.map(|column| Place::There(*beside, column))
    });
    let says = |place: Place<'t>| {
        let column = place.column();
        let says = reading(&column.name)?;
        let is_choice = matches!(
            column.kind,
            Kind::Text | Kind::SmallInt | Kind::Integer | Kind::BigInt
        );
        let says = match says {
            says if is_flag(column.kind) => says,
            // Of a choice only the app knows what each value means.
            Says::Near if is_choice && column.references.is_none() => Says::Near,
            _ => return None,
        };
        Some(Found { place, says })
    };
    here.chain(there).filter_map(says).collect()
}

/// Writes it down: one flag, and what else may say so.
pub(super) fn say(guess: &mut Guess, table: &Table, beside: &[Beside<'_>]) {
    const SECTION: &str = "schema.profile.columns";
    let found = found(table, beside);
    let mut flags = found.iter().filter(|found| found.says != Says::Near);
    if let Some(flag) = flags.next() {
        let (key, why) = match flag.says {
            Says::Shown => ("is_shown", "members for whom it is false are in no list"),
            _ => ("is_hidden", "members for whom it is true are in no list"),
        };
        let reason = format!("by its name, {}: {why}", flag.place.name());
        guess.set(SECTION, key, flag.place.toml(), reason);
    }
    let further: Vec<_> = flags
        .chain(found.iter().filter(|found| found.says == Says::Near))
        .collect();
    for found in further {
        guess.open.push(format!(
            "{}: whether it, too, says who is shown to nobody. schema.profile.columns.is_hidden takes one flag: a view or a \
             generated column can make one of several, or of a choice",
            found.place.name()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_by_its_words() {
        for (name, says) in [
            ("isHidden", None),
            ("hide_from_online_list", Some(Says::Hidden)),
            ("appear_offline", Some(Says::Hidden)),
            ("offline", None),
            ("is_online", None),
            ("show_hidden", None),
            ("show", None),
            ("show_my_activity", Some(Says::Shown)),
            ("profile_visibility", Some(Says::Near)),
            ("is_private", Some(Says::Near)),
            ("privacy_policy", None),
            ("last_seen", None),
        ] {
            assert_eq!(reading(name), says, "{name}");
        }
    }
}
