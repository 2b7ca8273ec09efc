//! A proxy that the configuration forgot.

use super::{nginx, trusting};
use crate::support::member::Member;
use crate::support::world::{Wanted, World};

const FORWARDING: &str =
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto https;";
const TOLD: &str = "limits.trusted_proxies does not name";

#[tokio::test]
async fn v46_a_proxy_that_is_not_trusted_is_told_of_once_and_is_no_outage() {
    let world = World::shared().await;
    for (wanted, is_told) in [(Wanted::usual(), true), (trusting(), false)] {
        let sidecar = world.another_sidecar(&wanted);
        let nginx = nginx(&sidecar, FORWARDING);
        let visitor = Member::new(format!("http://127.0.0.1:{}", nginx.port()));
        let sees = async |times: usize| {
            for _ in 0..times {
                let answer = visitor.navigation("/about/").send().await;
                assert_eq!(answer.expect("an answer").status(), 200);
            }
        };
        sees(19).await;
        assert!(!sidecar.log().contains(TOLD), "{}", sidecar.log());
        sees(21).await;
        if is_told {
            let log = sidecar.says(TOLD);
            let line = log.lines().find(|line| line.contains(TOLD)).expect("a line");
            for part in [
                "WARN",
                "X-Forwarded-For, X-Forwarded-Proto",
                "127.0.0.1",
                "trusted_proxies = [",
                "not if clients without a proxy have this address",
            ] {
                assert!(line.contains(part), "{line}");
            }
        }
        let ready = reqwest::get(sidecar.admin_url("/readyz")).await;
        assert_eq!(ready.expect("an answer").text().await.expect("text"), "ok\n");
        assert_eq!(sidecar.log().matches(TOLD).count(), usize::from(is_told));
    }
}
