//! Tests of the status: what is logged once each way, and what the gauges show.

use prometheus::{Registry, TextEncoder};

use super::*;

/// A component that notes what it is asked to log.
#[derive(Default)]
struct Logged {
    component: Component,
    lines: Mutex<Vec<String>>,
}

impl Logged {
    fn of(state: ComponentState) -> Self {
        Self {
            component: Component::new(state),
            ..Self::default()
        }
    }

    fn log(&self, line: &str) {
        self.lines.lock().unwrap().push(line.into());
    }

    fn up(&self) {
        self.component.up(|_| self.log("up"));
    }

    fn set(&self, up: bool) {
        if up {
            self.up();
        } else {
            self.down("away");
        }
    }

    fn down(&self, reason: &str) {
        self.component.down(reason, |reason| self.log(reason));
    }

    fn set_reasons(&self, reasons: &[&str]) {
        let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        self.component
            .set(reasons, |reason| self.log(reason), |_| self.log("up"));
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

#[test]
fn an_outage_is_logged_once_and_its_end_once() {
    let logged = Logged::default();
    logged.up();
    for reason in ["away", "away", "hangs"] {
        logged.down(reason);
    }
    let condition = logged.component.condition();
    assert_eq!(
        (condition.state, &condition.reasons[..]),
        (ComponentState::Down, &["hangs".into()][..])
    );
    logged.up();
    logged.up();
    assert_eq!(logged.component.condition().reasons, [""; 0]);
    logged.down("away");
    assert_eq!(logged.lines(), ["away", "up", "away"]);
}

#[test]
fn v45_what_is_down_for_several_reasons_tells_when_all_are_gone() {
    let logged = Logged::default();
    logged.set_reasons(&["one", "two"]);
    logged.set_reasons(&["two", "three"]);
    logged.set_reasons(&["one"]);
    assert_eq!(logged.lines(), ["one", "two", "three", "one"]);
    assert_eq!(logged.component.condition().reasons, ["one"]);
    for _ in 0..2 {
        logged.set_reasons(&[]);
        assert!(!logged.component.is_down());
    }
    logged.set_reasons(&["one"]);
    assert_eq!(logged.lines()[4..], ["up", "one"]);
}

#[test]
fn the_first_success_is_not_logged_and_the_first_failure_is() {
    let logged = Logged::of(ComponentState::Unknown);
    logged.up();
    assert_eq!(logged.lines(), [""; 0]);
    logged.component.unknown();
    logged.down("away");
    logged.component.unknown();
    logged.down("away");
    assert_eq!(logged.lines(), ["away", "away"]);
}

#[test]
fn since_is_when_what_is_shown_changed() {
    let component = Component::new(ComponentState::Unknown);
    let since = || component.condition().since;
    let start = since();
    component.down("away", |_| {});
    component.down("hangs", |_| {});
    component.unknown();
    assert_eq!(since(), start, "it was shown as down all the time");
    while Utc::now() == start {}
    component.up(|_| {});
    let up = since();
    assert!(up > start);
    component.up(|_| {});
    assert_eq!(since(), up);
    while Utc::now() == up {}
    component.down("away", |_| {});
    let down = since();
    assert!(down > up);
    while Utc::now() == down {}
    let mut lasted = Duration::ZERO;
    component.up(|time| lasted = time);
    assert_eq!(lasted, (since() - down).to_std().unwrap());
}

#[test]
fn of_setters_at_the_same_time_one_logs() {
    let logged = Logged::default();
    for round in 0..100 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| logged.set(round % 2 == 1));
            }
        });
    }
    let lines = logged.lines();
    assert_eq!(lines.len(), 100);
    assert!(lines.chunks(2).all(|pair| pair == ["away", "up"]), "{lines:?}");
}

#[test]
fn lines_stand_in_the_order_of_the_changes() {
    let logged = Logged::default();
    std::thread::scope(|scope| {
        for setter in 0..4 {
            let logged = &logged;
            scope.spawn(move || {
                for _ in 0..250 {
                    logged.set(setter % 2 == 1);
                }
            });
        }
    });
    let lines = logged.lines();
    assert!(lines.iter().step_by(2).all(|line| line == "away"), "{lines:?}");
    assert!(
        lines.iter().skip(1).step_by(2).all(|line| line == "up"),
        "{lines:?}"
    );
    assert_eq!(logged.component.is_down(), lines.len() % 2 == 1);
}

#[test]
fn clones_share_their_condition() {
    let status = Status::default();
    let clone = status.clone();
    clone.database.up(|_| {});
    clone.set_partitions_down(3, 16);
    clone.set_backlog(Backlog {
        views: 2.0,
        ..Backlog::default()
    });
    assert_eq!(status.database.condition().state, ComponentState::Up);
    assert_eq!(
        status.redis.condition().state,
        ComponentState::Up,
        "others answer"
    );
    assert_eq!((status.partitions_down(), status.backlog().views), (3, 2.0));
    clone.set_partitions_down(16, 16);
    assert_eq!(status.redis.condition().state, ComponentState::Down);
}

#[test]
fn gauges_are_what_the_status_is_when_they_are_rendered() {
    let status = Status::default();
    let registry = Registry::new();
    registry.register(Box::new(StatusGauges::of(&status))).unwrap();
    let shows = |line: &str| {
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains(&format!("\nheadcount_{line}\n")), "{line}: {text}");
    };
    shows("database_up 0");
    shows("spool_up -1");
    shows("ledger_ok 1");
    shows("session_listener_up -1");
    shows("presence_settings_differ 0");

    status.database.up(|_| {});
    status.session_listener.up(|_| {});
    status.presence_settings.down("another window", |_| {});
    status.set_partitions_down(2, 16);
    shows("database_up 1");
    shows("session_listener_up 1");
    shows("presence_settings_differ 1");
    shows("redis_partitions_down 2");
    shows("redis_up 1");

    status.session_trigger.down("no trigger", |_| {});
    status.redis.off();
    shows("session_listener_up 0");
    shows("redis_up -1");
}
