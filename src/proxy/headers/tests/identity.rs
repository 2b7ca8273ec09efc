//! Tests of headers that name a user or a client, and of names that WSGI takes for them.

use super::*;

#[test]
fn identity_headers_come_only_from_trusted_proxies_and_only_where_configured() {
    let others = [
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Client-Cert",
        "X-Auth-Request-Email",
        "X-Authenticated-User",
        "X-Remote-User",
        "Remote-User",
        "X-Client-Cert",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Uri",
        "SSL-Client-Verify",
        "Cf-Access-Jwt-Assertion",
    ];
    let of_proxies = include_str!("../../../../tests/integration/support/identity_headers.txt");
    for name in of_proxies.lines().chain(others) {
        for trusted in [TRUSTED, UNTRUSTED] {
            let mut claim = request(trusted, &[(name, "x")]);
            claim.underscores = true;
            assert_eq!(claim.value(name), None, "{name}");
            claim.identity_headers = vec!["X-Other".into(), format!("{name}s")];
            assert_eq!(claim.value(name), None, "{name}");
            for configured in [name.into(), name.to_uppercase(), name.to_lowercase()] {
                claim.identity_headers = vec!["X-Other".into(), configured];
                assert_eq!(claim.value(name).is_some(), trusted, "{name}");
            }
        }
    }
}

#[test]
fn any_header_that_is_configured_as_identity_is_stripped_from_all_but_trusted_proxies() {
    for (trusted, name, passes) in [
        (TRUSTED, "x-staff-name", true),
        (UNTRUSTED, "x-staff-name", false),
        // WSGI treats these as the above.
        (TRUSTED, "x_staff_name", false),
        (TRUSTED, "x-staff_name", false),
        (UNTRUSTED, "x_staff_name", false),
        (UNTRUSTED, "x-staff-names", true),
    ] {
        let mut claim = request(trusted, &[(name, "alice")]);
        claim.underscores = true;
        claim.identity_headers = vec!["X-Staff-Name".into()];
        assert_eq!(claim.value(name).is_some(), passes, "{trusted} {name}");
    }
}

#[test]
fn names_that_wsgi_takes_for_others_are_stripped_from_everybody() {
    for name in [
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X_Forwarded_Proto",
        "X_Real_IP",
        "X_Request_Id",
        "X_Headcount_Recorded",
        "X_Headcount_User",
        "Remote_User",
        "SCRIPT_NAME",
        "PATH_INFO",
        "X-Headcount-User",
        "X-Headcount",
        "Proxy",
    ] {
        for trusted in [TRUSTED, UNTRUSTED] {
            let mut claim = request(trusted, &[(name, "x")]);
            assert_eq!(claim.value(name), None, "{name}");
            claim.underscores = true;
            assert_eq!(claim.value(name), None, "{name}");
        }
    }
}

#[test]
fn e15_names_with_underscores_pass_only_where_that_is_configured() {
    for trusted in [TRUSTED, UNTRUSTED] {
        let mut request = request(trusted, &[("api_key", "x")]);
        assert_eq!(request.value("api_key"), None);
        request.underscores = true;
        assert_eq!(request.value("api_key").as_deref(), Some("x"));
    }
}
