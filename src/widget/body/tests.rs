//! Tests of bodies, compressed and not.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use super::super::rewriter::testing::wanted;
use super::*;

const PAGE: &[u8] = b"<!doctype html><head><title>A</title></head><body>B</body>";

fn packed(page: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(page).unwrap();
    encoder.finish().unwrap()
}

fn pass(coding: Coding, pieces: &[&[u8]]) -> io::Result<(Vec<u8>, Option<Outcome>)> {
    let mut body = PageBody::new(coding, wanted());
    let (mut out, mut outcomes) = (Vec::new(), Vec::new());
    for (index, piece) in pieces.iter().enumerate() {
        let end = index + 1 == pieces.len();
        out.extend(body.pass(piece, end)?);
        outcomes.extend(body.outcome(end));
    }
    assert!(outcomes.len() <= 1, "told twice");
    Ok((out, outcomes.pop()))
}

fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut page)?;
    Ok(page)
}

#[test]
fn a_packed_page_is_the_same_as_one_that_is_not() {
    let (plain, outcome) = pass(Coding::Identity, &[PAGE, b""]).unwrap();
    assert_eq!(outcome, Some(Outcome::Injected));
    assert!(plain.len() > PAGE.len());
    let gzip = packed(PAGE);
    for size in [1, 7, gzip.len()] {
        let pieces: Vec<_> = gzip.chunks(size).collect();
        let (out, outcome) = pass(Coding::Gzip, &pieces).unwrap();
        assert_eq!(
            (unpacked(&out).unwrap(), outcome),
            (plain.clone(), Some(Outcome::Injected))
        );
    }
}

#[test]
fn a_packed_page_that_streams_goes_on_streaming() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut body = PageBody::new(Coding::Gzip, wanted());
    let mut seen = Vec::new();
    for part in [&b"<head><title>A"[..], b"</title>", b"</head>", b"<p>B"] {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
        let piece = std::mem::take(encoder.get_mut());
        seen.extend_from_slice(&body.pass(&piece, false).unwrap());
        // Incomplete, so read until that shows.
        let mut page = Vec::new();
        let _ = MultiGzDecoder::new(&*seen).read_to_end(&mut page);
        assert!(page.ends_with(part), "{}", page.escape_ascii());
    }
}

#[test]
fn an_empty_body_stays_empty() {
    for coding in [Coding::Identity, Coding::Gzip] {
        assert_eq!(
            pass(coding, &[b"", b""]).unwrap(),
            (Vec::new(), Some(Outcome::NoPlace))
        );
    }
}

#[test]
fn what_is_not_packed_as_it_says_passes_as_it_came() {
    let (out, outcome) = pass(Coding::Gzip, &[PAGE, b"and", b" more"]).unwrap();
    assert_eq!(out, [PAGE, b"and more"].concat());
    assert_eq!(outcome, Some(Outcome::Failed));
}

#[test]
fn what_stops_being_packed_as_it_says_is_an_error() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(PAGE).unwrap();
    encoder.flush().unwrap();
    // No block begins like this.
    assert!(pass(Coding::Gzip, &[encoder.get_ref(), &[0xff; 8]]).is_err());
}

#[test]
fn a_packed_page_that_is_cut_off_reaches_the_browser_cut_off() {
    let gzip = packed(PAGE);
    let (out, _) = pass(Coding::Gzip, &[&gzip[..gzip.len() - 4]]).unwrap();
    assert!(unpacked(&out).is_err());
    let mut page = Vec::new();
    let _ = MultiGzDecoder::new(&*out).read_to_end(&mut page);
    assert!(page.ends_with(b"B</body>"), "{}", page.escape_ascii());
}

#[test]
fn what_follows_a_packed_page_is_ignored() {
    let gzip = [packed(PAGE), b"\0\0\0".to_vec()].concat();
    let (out, _) = pass(Coding::Gzip, &[&gzip]).unwrap();
    assert!(unpacked(&out).unwrap().ends_with(b"B</body>"));
}

#[test]
fn a_few_bytes_that_unpack_to_many_are_never_many_in_memory() {
    // Just not too many to be unpacked at all.
    let bomb = packed(&vec![b' '; 15 * 1024 * 1024]);
    let mut body = PageBody::new(Coding::Gzip, wanted());
    let out = body.pass(&bomb, true).unwrap();
    assert!(out.len() < 4 * bomb.len(), "{} of {}", out.len(), bomb.len());
    let Filter::Packed(packed) = &body.filter else {
        unreachable!("gzip was asked for");
    };
    let held = packed.decoder.get_ref().page.capacity();
    assert!(held <= 128 * 1024, "{held}");
}

/// A page, and so many bytes of nothing behind it.
fn bomb(megabytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(PAGE).unwrap();
    encoder.flush().unwrap();
    let megabyte = vec![b' '; 1024 * 1024];
    for _ in 0..megabytes {
        encoder.write_all(&megabyte).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn i15_a_body_that_unpacks_to_absurd_size_is_not_unpacked() {
    let gzip = bomb(64);
    let (out, outcome) = pass(Coding::Gzip, &[&gzip, b""]).unwrap();
    assert!(out == gzip && outcome == Some(Outcome::Failed), "as it came");
    let pieces: Vec<_> = gzip.chunks(4096).collect();
    let error = pass(Coding::Gzip, &pieces).expect_err("what has begun cannot be taken back");
    assert_eq!(error.to_string(), "the page unpacks to far more than it is");
}

#[test]
fn a_large_page_is_unpacked_to_its_end() {
    let (mut page, mut number) = (PAGE.to_vec(), 1_u32);
    while page.len() < 24 * 1024 * 1024 {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        page.extend_from_slice(format!("<td>{number}</td>").as_bytes());
    }
    let gzip = packed(&page);
    let pieces: Vec<_> = gzip.chunks(64 * 1024).collect();
    let (out, outcome) = pass(Coding::Gzip, &pieces).unwrap();
    assert_eq!(outcome, Some(Outcome::Injected));
    assert!(unpacked(&out).unwrap().ends_with(b"</td>") && out.len() >= page.len() / 20);
}
