//! Tests of when a view is due.

use super::*;

/// A view waits for its lookup for half of the time, and is given to the disk after four fifths of it.
#[test]
fn a_view_that_waited_for_its_lookup_is_due_no_later_than_any_other() {
    let spool = config::Spool::default();
    let database = config::Database::default();
    let limits = BatchLimits::new(&config::Record::default(), &spool, &database);
    let patience = spool.max_unspooled / 2;
    let accepted = Instant::now();
    let identified = accepted + patience;
    let due = |since: Instant| since + limits.unspooled - accepted;
    assert_eq!(due(accepted), Duration::from_millis(40));
    assert_eq!(
        due(limits.accepted_at(identified, patience)),
        Duration::from_millis(40)
    );
    // One that waited for longer does not have a commit of its own.
    let late = accepted + 10 * patience;
    let since = limits.accepted_at(late, 10 * patience);
    assert_eq!(since + limits.unspooled - late, Duration::from_millis(15));
}
