//! Tests of checks of the API keys in use, whatever became of their file.

use crate::config::{Api, KeyHash};
use crate::key_type::{AppKeys, KeyType, KeyTypes};
use crate::reload::ApiKeyFile;

/// The database is there later than the keys.
#[test]
fn a24_keys_in_use_are_checked_whatever_became_of_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    let sha256 = KeyHash::of(b"hc_secret");
    let table = |community: &str| {
        format!(
            "[[key]]\nname = \"a\"\nsha256 = \"{sha256}\"\nscopes = [\"counts\"]\ncommunities = [\"{community}\"]\n"
        )
    };
    for (community, later) in [
        ("rust", None),
        ("rust", Some(table("7"))),
        ("7", None),
        ("7", Some("[[key]]\nname = 1".into())),
    ] {
        std::fs::write(&path, table(community)).unwrap();
        let settings = Api {
            key_file: Some(path.clone()),
            ..Api::default()
        };
        let file = ApiKeyFile::read(&settings).unwrap().unwrap();
        let keys = AppKeys::default();
        file.check_against(keys.clone()).unwrap();
        assert_eq!(file.check_at_last(), None, "the types are not known yet");
        match &later {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        keys.learn(KeyTypes {
            community: KeyType::BIGINT,
            user: KeyType::BIGINT,
        });
        let checked = file.check_at_last().expect("a check");
        if community == "7" {
            assert_eq!(checked, Ok(()), "{later:?}");
        } else {
            let error = checked.unwrap_err().to_string();
            let place = format!(
                "api.key_file: {}:5: key[0].communities: \"rust\" is",
                path.display()
            );
            assert!(error.starts_with(&place), "{error}");
        }
        assert_eq!(file.check_at_last(), None, "once");
    }
}
