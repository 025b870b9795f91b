//! What detectors find, and what they leave. Names, numbers and keys are made up, or are the ones
//! that their owners publish as examples.

use super::super::{Detector, Detectors};

fn found(text: &str) -> Vec<(Detector, &str)> {
    Detectors::all()
        .find(text.as_bytes())
        .into_iter()
        .map(|one| (one.detector, &text[one.span]))
        .collect()
}

#[track_caller]
fn finds(detector: Detector, texts: &[&str]) {
    for text in texts {
        let all = [
            (*text).to_owned(),
            format!("before {text} after"),
            format!("before, {text}, after"),
            format!("{{\"key\":\"{text}\"}}"),
            format!("1,\"{text}\",x\n"),
            format!("{{{text},other}}"),
            format!("key={text}\n"),
            format!("({text})."),
            format!("\u{fc}: {text} \u{2026}"),
        ];
        for whole in &all {
            assert_eq!(found(whole), [(detector, *text)], "in {whole}");
        }
    }
}

#[track_caller]
fn leaves(texts: &[&str]) {
    for text in texts {
        assert_eq!(found(text), [], "in {text}");
    }
}

#[test]
fn addresses_of_mail() {
    finds(
        Detector::Email,
        &[
            "ada@example.com",
            "a.b+c_d-e@mail.example.co.uk",
            "j\u{fc}rgen@b\u{fc}cher.example",
            "x@y.xn--p1ai",
        ],
    );
    leaves(&[
        "user@host",
        "@handle",
        "a@b@",
        "getty@tty1.service",
        "pkg@1.2.3",
        "a @ b.com",
        "a@.com",
    ]);
    assert_eq!(found("Mail ada@example.com."), [(Detector::Email, "ada@example.com")]);
    assert_eq!(found("<bob@example.org>"), [(Detector::Email, "bob@example.org")]);
}

#[test]
fn numbers_of_cards() {
    finds(
        Detector::Card,
        &[
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "3782 822463 10005",
            "6011111111111117",
            "3530111333300000",
            "30569309025904",
            "4222222222222",
        ],
    );
    leaves(&[
        "4111111111111112",
        "1111111111111117",
        "0.4111111111111111",
        "a4111111111111111",
        "41111111111111110000",
        "4111-1111 1111-1111",
        "550e8400-e29b-41d4-a716-446655440000",
    ]);
    assert_eq!(found("12 4111 1111 1111 1111 12"), [(Detector::Card, "4111 1111 1111 1111")]);
}

#[test]
fn social_security_numbers() {
    finds(Detector::Ssn, &["219-09-9999", "078-05-1120", "219 09 9999"]);
    leaves(&[
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "123-00-4567",
        "123-45-0000",
        "123-45 6789",
        "123-45-67890",
        "0123-45-6789",
        "123-45-6789-0",
    ]);
}

#[test]
fn accounts() {
    finds(
        Detector::Iban,
        &[
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00",
            "GB82WEST12345698765432",
            "GB82 WEST 1234 5698 7654 32",
            "NO9386011117947",
            "FR1420041010050500013M02606",
            "MT84MALT011000012345MTLCAST001S",
        ],
    );
    leaves(&[
        "DE88370400440532013000",
        "DE8937040044053201300",
        "ZZ89370400440532013000",
        "XDE89370400440532013000",
        "DE893704004405320130001",
    ]);
}

#[test]
fn telephones() {
    finds(
        Detector::Phone,
        &[
            "+14155552671",
            "+1 415 555 2671",
            "+1 (415) 555-2671",
            "+49 30 1234567",
            "+442071838750",
        ],
    );
    leaves(&[
        "14155552671",
        "+1234567",
        "+0123456789",
        "+9991234567",
        "1+14155552671",
        "+1234567890123456",
    ]);
}

#[test]
fn addresses_of_hosts() {
    finds(Detector::Ipv4, &["10.0.0.1", "192.168.100.254", "255.255.255.255"]);
    leaves(&[
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.2.3.4",
        "v1.2.3.4",
        "1.2.3.4-1",
        "1.2.3.4~rc1",
    ]);
    assert_eq!(
        found("10.0.0.1-10.0.0.9"),
        [(Detector::Ipv4, "10.0.0.1")],
        "the second continues a number"
    );
    finds(
        Detector::Ipv6,
        &[
            "2001:db8::1",
            "fe80::1",
            "::1",
            "2001:db8:0:0:0:0:0:1",
            "::ffff:192.0.2.1",
            "2001:db8::",
        ],
    );
    leaves(&["std::fmt", "::", "12:34:56", "dead::beef", "00:1b:44:11:3a:b7", "a:b", "x::1y"]);
}

/// The sum is what the token's maker documents; the body is arbitrary.
fn github(prefix: &str) -> String {
    let body = "0123456789abcdefghijABCDEFGHIJ";
    let mut sum = crc32fast::hash(body.as_bytes());
    let mut digits = Vec::new();
    for _ in 0..6 {
        let digit =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(sum % 62) as usize];
        digits.insert(0, char::from(digit));
        sum /= 62;
    }
    format!("{prefix}_{body}{}", digits.into_iter().collect::<String>())
}

#[test]
fn tokens_and_keys() {
    for prefix in ["ghp", "gho", "ghu", "ghs", "ghr"] {
        let token = github(prefix);
        finds(Detector::GithubToken, &[&token]);
        let wrong: String = token.replace("abc", "abd");
        leaves(&[&wrong]);
    }
    // A revoked one that is widely quoted to explain the sum.
    finds(Detector::GithubToken, &["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"]);
    let fine = format!("github_pat_{}_{}", "1A".repeat(11), "b2C".repeat(20).split_at(59).0);
    finds(Detector::GithubToken, &[&fine]);
    finds(Detector::AwsKeyId, &["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"]);
    leaves(&["AKIAIOSFODNN7EXAMPL", "XAKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLEX"]);
    finds(Detector::AwsSecret, &["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"]);
    leaves(&[
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKE",
        "usr/share/doc/libgtk3/ChangeLogs/Readme1",
    ]);
    // {"alg":"HS256"}.{}. and a header without an algorithm
    finds(
        Detector::Jwt,
        &["eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "eyJhbGciOiJIUzI1NiJ9.e30.abc-_d"],
    );
    leaves(&[
        "eyJ0eXAiOiJKV1QifQ.e30.c2lnbmF0dXJl",
        "eyJhbGciOiJIUzI1NiJ9.e30",
        "eyJ",
        "eyJabc.def.ghi",
    ]);
}

#[test]
fn private_keys() {
    let key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIBOgIB\n-----END RSA PRIVATE KEY-----";
    finds(Detector::PrivateKey, &[key, &key.replace('\n', "\\n"), &key.replace("RSA ", "")]);
    leaves(&[&key.replace("PRIVATE", "PUBLIC")]);
    let open = &key[..60];
    assert_eq!(found(open), [(Detector::PrivateKey, open)], "without its end");
}

#[test]
fn only_those_that_are_asked_for() {
    let text = b"ada@example.com 10.0.0.1 +14155552671";
    for detector in [Detector::Email, Detector::Ipv4, Detector::Phone] {
        let only: Detectors = [detector].into_iter().collect();
        let found = only.find(text);
        assert_eq!(found.iter().map(|one| one.detector).collect::<Vec<_>>(), [detector]);
    }
    assert_eq!(Detectors::default().find(text), []);
}
