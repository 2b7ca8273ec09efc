//! What follows from a problem: whether batches wait, a start or a take-over is refused, or an operator is only told.

use super::SchemaProblem;
use crate::store::schema::Privilege;

impl SchemaProblem {
    /// Whether every row would be refused alike, so that batches should wait.
    pub fn blocks_writes(&self) -> bool {
        match self {
            Self::Unfilled { .. }
            | Self::NoKey { .. }
            | Self::UnknownConstant { .. }
            | Self::NeedlessConstant { .. }
            | Self::BadConstant { .. }
            | Self::UnknownTimeZone { .. } => true,
            Self::Forbidden { writes, .. } | Self::NoPolicy { writes, .. } => *writes,
            Self::FixedView { command, .. } => *command == Privilege::Insert.sql(),
            Self::MissingTable { .. }
            | Self::NoDjangoSessions { .. }
            | Self::MissingColumn { .. }
            | Self::WrongType { .. }
            | Self::KeysDisagree { .. }
            | Self::MissingJoin { .. }
            | Self::JoinDisagrees { .. }
            | Self::LooseJoin { .. }
            | Self::LooseToken { .. }
            | Self::NoStatistics { .. }
            | Self::NoOwnTable { .. }
            | Self::NotPartitioned
            | Self::NoPartition { .. }
            | Self::Lookup { .. }
            | Self::AccountsDisagree { .. }
            | Self::NamesAccount { .. }
            | Self::Counter(_)
            | Self::NoCounterTables
            | Self::OfCounters(_)
            | Self::ReadOnly
            | Self::NoTimeZone { .. }
            | Self::NoTrigger { .. } => false,
        }
    }

    /// Whether it is a right that the connection's role lacks: the tables are as configured.
    pub fn is_of_the_role(&self) -> bool {
        match self {
            Self::OfCounters(problem) => problem.is_of_the_role(),
            problem => matches!(problem, Self::Forbidden { .. } | Self::NoPolicy { .. }),
        }
    }

    /// Whether it is a right that a GRANT gives: one of [`LackingRights`](crate::store::LackingRights).
    pub fn is_a_lacking_right(&self) -> bool {
        match self {
            Self::OfCounters(problem) => problem.is_a_lacking_right(),
            problem => matches!(problem, Self::Forbidden { .. }),
        }
    }

    /// Whether nothing fails because of it, and it may be as it should be: the operator has to say.
    pub fn is_a_question(&self) -> bool {
        matches!(self, Self::NoTimeZone { .. }) || self.is_a_warning()
    }

    /// Whether a sidecar that serves is not to be replaced by one that finds this. What holds for a while, or only makes
    /// sign-outs noticed later, is no reason; nor is what a start accepts of the counters.
    pub fn prevents_a_take_over(&self) -> bool {
        let is_accepted = self.is_of_counters() && !self.refuses_counters();
        !self.is_a_question() && !is_accepted && !matches!(self, Self::ReadOnly | Self::NoTrigger { .. })
    }

    /// Whether a sidecar that is to keep counters is refused for it: they cannot be kept as they are configured, whatever the
    /// role may do. Without a right it serves, records, and keeps none.
    pub fn refuses_counters(&self) -> bool {
        self.is_of_counters() && !self.is_of_the_role()
    }

    /// Whether the counters cannot be kept as they are configured.
    pub fn is_of_counters(&self) -> bool {
        matches!(
            self,
            Self::Counter(_) | Self::NoCounterTables | Self::OfCounters(_)
        )
    }

    /// Whether everything works, in a way that an operator may not want.
    pub fn is_a_warning(&self) -> bool {
        matches!(
            self,
            Self::LooseJoin { .. }
                | Self::LooseToken { .. }
                | Self::NoStatistics { .. }
                | Self::NotPartitioned
                | Self::NoPartition { .. }
        )
    }
}
