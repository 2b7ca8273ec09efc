//! Flow control: how many values may be sent before the client acknowledges them. Pure.
//!
//! The socket buffers at both ends hold thousands of values, and a client that reads slowly would get every one of
//! them before the latest (L1). So pings are sent between the values, and after too many values without a pong no
//! more are sent.

/// Values after which a ping is sent.
const ASK_AFTER: u32 = 16;
/// Most values without a pong.
const MOST: u32 = 64;

/// The credit of one connection.
#[derive(Debug, Default)]
pub(super) struct Credit {
    /// Values that were not acknowledged yet.
    unanswered: u32,
    /// Those of them sent after the first ping that is not answered yet.
    since_asked: u32,
    /// Whether a pong is awaited. One is enough for any number of pings: clients need only answer the latest (RFC
    /// 6455, section 5.5.3).
    asked: bool,
}

impl Credit {
    /// Whether another value may be sent.
    pub(super) fn is_left(&self) -> bool {
        self.unanswered < MOST
    }

    /// A value was sent. Returns whether to ping now.
    pub(super) fn sent(&mut self) -> bool {
        self.unanswered += 1;
        self.since_asked += 1;
        self.unanswered >= ASK_AFTER && !self.asked
    }

    /// A ping was sent.
    pub(super) fn asked(&mut self) {
        if !self.asked {
            self.asked = true;
            self.since_asked = 0;
        }
    }

    /// A pong came. Returns whether it was awaited.
    pub(super) fn answered(&mut self) -> bool {
        let expected = std::mem::take(&mut self.asked);
        if expected {
            // It may answer the first of several pings.
            self.unanswered = self.since_asked;
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_who_does_not_answer_gets_so_many_and_no_more() {
        let mut credit = Credit::default();
        let mut asked = 0;
        let mut sent = 0;
        while credit.is_left() {
            sent += 1;
            if credit.sent() {
                credit.asked();
                asked += 1;
            }
        }
        assert_eq!((sent, asked), (MOST, 1));
        assert!(credit.answered());
        // What was sent after the ping may all be on its way still.
        let mut more = 0;
        while credit.is_left() {
            more += 1;
            credit.sent();
        }
        assert_eq!(more, ASK_AFTER);
    }

    #[test]
    fn who_answers_gets_everything() {
        let mut credit = Credit::default();
        for _ in 0..10_000 {
            assert!(credit.is_left());
            if credit.sent() {
                credit.asked();
                assert!(credit.answered());
            }
        }
    }

    #[test]
    fn l1_one_answer_to_several_pings_is_an_answer_to_all() {
        let mut credit = Credit::default();
        for _ in 0..10 {
            assert!((0..MOST).any(|_| credit.sent()));
            credit.asked();
            // Because it is time.
            credit.asked();
            assert!(credit.answered());
        }
    }

    #[test]
    fn an_answer_that_nobody_asked_for_counts_for_nothing() {
        let mut credit = Credit::default();
        for _ in 0..MOST {
            credit.sent();
        }
        assert!(!credit.answered() && !credit.is_left());
    }
}
