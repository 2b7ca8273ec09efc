//! Tests of the health of the app's servers.

use pingora_core::ErrorType;
use rustix::io::Errno;

use super::*;
use crate::metrics::Registry;
use crate::proxy::metrics::Metrics;
use crate::status::ComponentState;

const REFUSED: &str = "connection refused";

fn refused() -> Error {
    *Error::new(ErrorType::ConnectRefused)
}

/// As Pingora has it where the system gives no socket.
fn no_socket(errno: Errno) -> Error {
    let cause = std::io::Error::from_raw_os_error(errno.raw_os_error());
    let error = Error::because(ErrorType::SocketError, "failed to create socket", cause);
    *Error::because(ErrorType::InternalError, "Fail to connect", error)
}

struct Site {
    servers: Servers,
    app: Component,
    some: Component,
    own: Component,
    registry: Registry,
}

/// Servers at these addresses, of which nothing is known.
fn site(addresses: &[&str]) -> Site {
    let registry = Registry::default();
    let metrics = Metrics::new(&registry);
    let components = AppComponents {
        app: Component::new(ComponentState::Unknown),
        some: Component::default(),
        own: Component::default(),
    };
    let AppComponents { app, some, own } = components.clone();
    let names: Vec<_> = addresses.iter().map(|&name| name.to_owned()).collect();
    let servers = Servers::new(&names, components, metrics.upstream_up.clone());
    let found: Vec<_> = addresses.iter().map(|name| Ok(vec![address(name)])).collect();
    servers.resolved(&found);
    Site {
        servers,
        app,
        some,
        own,
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
    assert_eq!(site.app.condition().state, ComponentState::Unknown);
    site.servers.no_connection(&site.at(ONE), &refused());
    assert_eq!(
        site.app.condition().state,
        ComponentState::Unknown,
        "the other is not known"
    );
    assert_eq!(site.some.condition().reasons, [format!("{ONE}: {REFUSED}")]);
    site.servers.answered(&site.at(OTHER));
    assert_eq!(site.app.condition().state, ComponentState::Up);
    site.servers.no_connection(&site.at(OTHER), &refused());
    assert_eq!(site.app.condition().reasons.len(), 2);
    assert!(!site.some.is_down() && !site.gauge(ONE));
    site.servers.found(&site.at(ONE), Finding::Connects);
    assert_eq!(site.app.condition().state, ComponentState::Up);
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
    assert_eq!(site.app.condition().state, ComponentState::Up);
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
    site.servers.no_connection(&site.at(ONE), &refused());
    let failed = || Err("no such name".to_owned());
    let in_use = site.servers.resolved(&[Ok(vec![address(ONE)]), failed()]);
    assert!(site.at(ONE).is_down());
    assert_eq!(in_use.len(), 2, "the other's last known address stays");
    assert_eq!(site.app.condition().reasons[1], format!("{OTHER}: no such name"));
    site.servers.answered(&site.at(OTHER));
    assert_eq!(site.app.condition().state, ComponentState::Up);
    // With no name resolved the former addresses stay.
    assert_eq!(site.servers.resolved(&[failed(), failed()]).len(), 2);
    assert!(site.at(ONE).is_down() && !site.at(OTHER).is_down());
    // What a name no longer resolves to is left.
    let third = "127.0.0.1:3";
    let in_use = site.servers.resolved(&[Ok(vec![address(third)]), failed()]);
    assert_eq!(in_use.len(), 2);
    assert!(site.servers.of(&address(ONE)).is_none());
}

/// The process has no files, ports or memory left for a socket.
#[tokio::test(start_paused = true)]
async fn h3_what_this_process_lacks_says_nothing_about_a_server() {
    for errno in [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ] {
        let site = site(&[ONE, OTHER]);
        for server in [ONE, OTHER] {
            site.servers.answered(&site.at(server));
            site.servers.no_connection(&site.at(server), &no_socket(errno));
        }
        assert!(
            !site.at(ONE).is_down() && !site.app.is_down() && !site.some.is_down(),
            "{errno}"
        );
        assert!(site.own.is_down(), "{errno}");
        site.servers.found(&site.at(OTHER), Finding::Connects);
        assert!(!site.own.is_down(), "{errno}");
    }
    // An address of a kind that the machine does not have, as ::1 often is.
    let site = site(&[ONE, OTHER]);
    site.servers
        .no_connection(&site.at(ONE), &no_socket(Errno::ADDRNOTAVAIL));
    assert!(site.at(ONE).is_down() && !site.own.is_down());
}

#[test]
fn an_address_is_the_only_one_until_there_is_another() {
    let alone = site(&[ONE]);
    let (found, known) = alone.servers.only().expect("the address");
    assert_eq!(found, address(ONE));
    assert!(Arc::ptr_eq(&known, &alone.at(ONE)));
    // Its name has two addresses by now.
    alone.servers.resolved(&[Ok(vec![address(ONE), address(OTHER)])]);
    assert!(alone.servers.only().is_none());
    assert!(site(&[ONE, OTHER]).servers.only().is_none());
}
