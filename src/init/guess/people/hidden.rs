//! Finds the flag with which members hide themselves, by the words of its name: a column of the table of users, or of one
//! that is joined to it.

use super::SECTION;
use super::user_column::{JoinedTable, UserColumn};
use crate::init::catalogue::{AppTable, is_flag};
use crate::init::guess::Guess;
use crate::store::schema::Kind;

/// Words of a flag that hides its user where it is true.
const HIDES: &[&str] = &[
    "hide",
    "hides",
    "hiding",
    "hidden",
    "invisible",
    "ghost",
    "stealth",
    "incognito",
    "conceal",
    "concealed",
    "cloak",
    "cloaked",
    "lurker",
    "lurking",
];
/// Words of a flag that hides its user where it is false.
const SHOWS: &[&str] = &[
    "show", "shows", "shown", "visible", "share", "shares", "display", "displays",
];
/// Words for what is hidden or shown.
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
/// Words that may stand beside these without changing the meaning.
const FILLING: &[&str] = &[
    "is", "be", "the", "my", "me", "self", "i", "am", "user", "users", "profile", "account", "member",
    "members", "from", "to", "in", "on", "others", "everyone", "all", "list", "lists", "mode", "appear",
    "appears", "as",
];
/// Words of columns that may control the same, which only the app knows.
const NEAR: &[&str] = &["visibility", "privacy", "private", "public"];

/// The meaning of a column's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlagMeaning {
    Hidden,
    Shown,
    /// It may control the same; the operator decides.
    Unclear,
}

/// A column that may tell whether a user is hidden.
struct VisibilityColumn<'t> {
    source: UserColumn<'t>,
    meaning: FlagMeaning,
}

/// The meaning of a column's name; none where a word of it is not in the lists above.
fn meaning_of(name: &str) -> Option<FlagMeaning> {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(['_', '-']).filter(|word| !word.is_empty()).collect();
    let count = |of: &[&str]| words.iter().filter(|word| of.contains(*word)).count();
    let (hides, shows, presence, near) = (count(HIDES), count(SHOWS), count(PRESENCE), count(NEAR));
    let is_offline = words.contains(&"offline") && words.contains(&"appear");
    let known = hides + shows + presence + near + count(FILLING) + usize::from(is_offline);
    if known < words.len() {
        // Whatever else it says, it is about hiding or showing who is here.
        let is_near = presence > 0 && hides + shows + near > 0;
        return is_near.then_some(FlagMeaning::Unclear);
    }
    match (hides + usize::from(is_offline), shows, near) {
        (1, 0, 0) => Some(FlagMeaning::Hidden),
        (0, 1, 0) if presence > 0 || words.contains(&"visible") || words.contains(&"shown") => {
            Some(FlagMeaning::Shown)
        }
        (0, 0, 1) => Some(FlagMeaning::Unclear),
        _ => None,
    }
}

/// All such columns: those of the table of users first.
fn found<'t>(table: &'t AppTable, joined: &[JoinedTable<'t>]) -> Vec<VisibilityColumn<'t>> {
    let own = table.columns.iter().map(UserColumn::Own);
    let of_joined = joined.iter().flat_map(|joined| {
        let columns = joined.table.columns.iter();
        columns.map(|column| UserColumn::Joined(*joined, column))
    });
    let candidate = |source: UserColumn<'t>| {
        let column = source.column();
        let meaning = meaning_of(&column.name)?;
        let is_choice = matches!(
            column.kind,
            Kind::Text | Kind::SmallInt | Kind::Integer | Kind::BigInt
        );
        let meaning = match meaning {
            meaning if is_flag(column.kind) => meaning,
            // Only the app knows what the values of a choice mean.
            _ if is_choice && column.references.is_none() => FlagMeaning::Unclear,
            _ => return None,
        };
        Some(VisibilityColumn { source, meaning })
    };
    own.chain(of_joined).filter_map(candidate).collect()
}

/// Adds the first flag to the settings, and further candidates to what the operator decides.
pub(super) fn add_settings(guess: &mut Guess, table: &AppTable, joined: &[JoinedTable<'_>]) {
    let found = found(table, joined);
    let mut flags = found.iter().filter(|found| found.meaning != FlagMeaning::Unclear);
    if let Some(flag) = flags.next() {
        let (key, why) = match flag.meaning {
            FlagMeaning::Shown => ("is_shown", "members for whom it is false are in no list"),
            _ => ("is_hidden", "members for whom it is true are in no list"),
        };
        let reason = format!("by its name, {}: {why}", flag.source.name());
        guess.set(SECTION, key, flag.source.toml(), reason);
    }
    let further: Vec<_> = flags
        .chain(found.iter().filter(|found| found.meaning == FlagMeaning::Unclear))
        .collect();
    for found in further {
        guess.open.push(format!(
            "{}: whether it, too, hides members. schema.profile.columns.is_hidden takes one flag; where several columns or a \
             choice decide, combine them in a view or a generated column",
            found.source.name()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_by_its_words() {
        for (name, meaning) in [
            ("isHidden", None),
            ("hide_from_online_list", Some(FlagMeaning::Hidden)),
            ("appear_offline", Some(FlagMeaning::Hidden)),
            ("offline", None),
            ("is_online", None),
            ("show_hidden", None),
            ("show", None),
            ("show_my_activity", Some(FlagMeaning::Shown)),
            ("profile_visibility", Some(FlagMeaning::Unclear)),
            ("is_private", Some(FlagMeaning::Unclear)),
            ("privacy_policy", None),
            ("last_seen", None),
            ("is_hiding_presence", Some(FlagMeaning::Hidden)),
            ("hide_online", Some(FlagMeaning::Hidden)),
            ("show_online", Some(FlagMeaning::Shown)),
            ("is_invisible", Some(FlagMeaning::Hidden)),
            ("show_online_to_friends", Some(FlagMeaning::Unclear)),
            ("limits_private_thread_invites_to", None),
        ] {
            assert_eq!(meaning_of(name), meaning, "{name}");
        }
    }
}
