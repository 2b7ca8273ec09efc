use super::*;
use crate::metrics::Registry;
use crate::proxy::metrics::Metrics;
use crate::status::State;

const REFUSED: &str = "connection refused";

struct Site {
    servers: Servers,
    app: Component,
    some: Component,
    registry: Registry,
}

/// Servers at these addresses, of which nothing is known.
fn site(addresses: &[&str]) -> Site {
    let registry = Registry::default();
    let metrics = Metrics::new(&registry);
    let (app, some) = (Component::new(State::Unknown), Component::default());
    let names: Vec<_> = addresses.iter().map(|&name| name.to_owned()).collect();
    let servers = Servers::new(&names, app.clone(), some.clone(), metrics.upstream_up.clone());
    let found: Vec<_> = addresses.iter().map(|name| Ok(vec![address(name)])).collect();
    servers.resolved(&found);
    Site {
        servers,
        app,
        some,
        registry,
    }
}

fn address(name: &str) -> SocketAddr {
    SocketAddr::Inet(name.parse().expect("an address"))
}

impl Site {
    fn at(&self, name: &str) -> Arc<Address> {
        self.servers.of(&address(name)).expect("a known address")
    }

    fn gauge(&self, name: &str) -> bool {
        let line = format!("headcount_upstream_up{{server=\"{name}\"}} 1");
        self.registry.render().lines().any(|one| one == line)
    }
}

const ONE: &str = "127.0.0.1:1";
const OTHER: &str = "127.0.0.1:2";

#[tokio::test(start_paused = true)]
async fn h3_the_app_is_down_when_all_its_servers_are() {
    let site = site(&[ONE, OTHER]);
    assert_eq!(site.app.condition().state, State::Unknown);
    site.servers.unreachable(&site.at(ONE), REFUSED.into());
    assert_eq!(
        site.app.condition().state,
        State::Unknown,
        "the other is not known"
    );
    assert_eq!(site.some.condition().reasons, [format!("{ONE}: {REFUSED}")]);
    site.servers.answered(&site.at(OTHER));
    assert_eq!(site.app.condition().state, State::Up);
    site.servers.unreachable(&site.at(OTHER), REFUSED.into());
    assert_eq!(site.app.condition().reasons.len(), 2);
    assert!(!site.some.is_down() && !site.gauge(ONE));
    site.servers.found(&site.at(ONE), Finding::Connects);
    assert_eq!(site.app.condition().state, State::Up);
    assert!(site.gauge(ONE) && !site.gauge(OTHER) && site.some.is_down());
}

#[tokio::test(start_paused = true)]
async fn h4_silence_ends_with_an_answer_and_not_with_a_connection() {
    let site = site(&[ONE]);
    let server = site.at(ONE);
    let patience = Duration::from_secs(2);
    site.servers.asked(&server);
    tokio::time::advance(Duration::from_millis(1_999)).await;
    site.servers.asked(&server);
    assert!(!site.servers.is_doubtful(&server, patience));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(site.servers.is_doubtful(&server, patience), "since the first");
    let silent = || Finding::Trouble(Trouble::Silent("silent".into()));
    site.servers.found(&server, silent());
    site.servers.found(&server, Finding::Connects);
    assert!(server.is_down() && site.servers.is_doubtful(&server, patience));
    site.servers.answered(&server);
    assert!(!server.is_down() && !site.servers.is_doubtful(&server, patience));
    assert_eq!(site.app.condition().state, State::Up);
}

#[tokio::test(start_paused = true)]
async fn h5_a_health_path_that_fails_is_not_mended_by_other_answers() {
    let site = site(&[ONE]);
    let server = site.at(ONE);
    site.servers
        .found(&server, Finding::Trouble(Trouble::Unhealthy("503".into())));
    site.servers.answered(&server);
    assert!(server.is_down() && site.app.is_down());
    site.servers.found(&server, Finding::Healthy);
    assert!(!server.is_down() && !site.app.is_down());
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_an_address_outlives_its_resolutions() {
    let site = site(&[ONE, OTHER]);
    site.servers.unreachable(&site.at(ONE), REFUSED.into());
    let failed = || Err("no such name".to_owned());
    site.servers.resolved(&[Ok(vec![address(ONE)]), failed()]);
    assert!(site.at(ONE).is_down());
    assert!(site.servers.of(&address(OTHER)).is_none());
    assert_eq!(site.app.condition().reasons[1], format!("{OTHER}: no such name"));
    // With no name resolved the former addresses stay.
    site.servers.resolved(&[failed(), failed()]);
    assert!(site.at(ONE).is_down());
    site.servers.answered(&site.at(ONE));
    assert_eq!(site.app.condition().state, State::Up);
}
