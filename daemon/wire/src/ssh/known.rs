//! Which host keys are believed: OpenSSH's `known_hosts` (sshd(8)), and
//! keys that are named one by one.
//!
//! Does not belong here: reading files, and clocks.

use aws_lc_rs::hmac;
use ssh_key::known_hosts::{HostPatterns, KnownHosts, Marker};
use wildmatch::WildMatch;

use super::{HostKey, PublicKey};

/// Keys, and for which hosts.
#[derive(Clone, Debug, Default)]
pub struct Known(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    /// `None` is for all.
    hosts: Option<HostPatterns>,
    kind: Kind,
    key: PublicKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Authority,
    Revoked,
}

impl Known {
    /// Adds a `known_hosts` file's lines, and answers a sentence for each that cannot be read. Other
    /// programs write there too, and what is passed over makes nobody believed.
    ///
    /// # Errors
    /// A sentence that names the line, where it would have taken a key back.
    pub fn add_file(&mut self, text: &str) -> Result<Vec<String>, String> {
        let mut passed_over = Vec::new();
        for (number, line) in text.lines().enumerate() {
            // Fields are parted by any blanks.
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let entry = match KnownHosts::new(&line).next() {
                None => continue,
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    let why = format!("line {}: {error}", number + 1);
                    if line.starts_with("@revoked") {
                        return Err(why);
                    }
                    passed_over.push(why);
                    continue;
                }
            };
            let key = entry.public_key().to_bytes().map_err(|error| error.to_string())?;
            self.0.push(Entry {
                hosts: Some(entry.host_patterns().clone()),
                kind: match entry.marker() {
                    None => Kind::Plain,
                    Some(Marker::CertAuthority) => Kind::Authority,
                    Some(Marker::Revoked) => Kind::Revoked,
                },
                key: PublicKey::new(&key),
            });
        }
        Ok(passed_over)
    }

    /// Adds a key for whatever host: `ssh-ed25519 AAAA…`, or `cert-authority ssh-ed25519 AAAA…`.
    ///
    /// # Errors
    /// A sentence.
    pub fn add_key(&mut self, text: &str) -> Result<(), String> {
        let (kind, key) = match text.strip_prefix("cert-authority ") {
            Some(key) => (Kind::Authority, key),
            None => (Kind::Plain, text),
        };
        let key = ssh_key::PublicKey::from_openssh(key.trim()).map_err(|e| e.to_string())?;
        let key = PublicKey::new(&key.to_bytes().map_err(|e| e.to_string())?);
        self.0.push(Entry { hosts: None, kind, key });
        Ok(())
    }

    /// Takes a key out, wherever it stands.
    pub fn forget(&mut self, key: &PublicKey) {
        self.0.retain(|entry| entry.key != *key);
    }

    /// Whether nothing is said of a host with these names: no key or authority of it is known, and
    /// this key of it is not revoked.
    pub fn is_silent(&self, names: &[String], shown: &HostKey) -> bool {
        let says = |entry: &Entry| entry.kind != Kind::Revoked || entry.key == shown.key;
        shown.certificate.is_none() && !self.of(names).any(says)
    }

    fn of<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a Entry> {
        self.0.iter().filter(|entry| entry.hosts.as_ref().is_none_or(|hosts| fits(hosts, names)))
    }

    /// The kinds of key that a host with these names could show and be believed, best first.
    pub fn algorithms(&self, names: &[String]) -> Vec<&'static str> {
        let mut algorithms = Vec::new();
        if self.of(names).any(|entry| entry.kind == Kind::Authority) {
            algorithms.extend([
                "ssh-ed25519-cert-v01@openssh.com",
                "ecdsa-sha2-nistp256-cert-v01@openssh.com",
                "ecdsa-sha2-nistp384-cert-v01@openssh.com",
                "ecdsa-sha2-nistp521-cert-v01@openssh.com",
                "rsa-sha2-512-cert-v01@openssh.com",
                "rsa-sha2-256-cert-v01@openssh.com",
            ]);
        }
        for (kind, of_kind) in [
            ("ssh-ed25519", &["ssh-ed25519"][..]),
            ("ecdsa-sha2-nistp256", &["ecdsa-sha2-nistp256"]),
            ("ecdsa-sha2-nistp384", &["ecdsa-sha2-nistp384"]),
            ("ecdsa-sha2-nistp521", &["ecdsa-sha2-nistp521"]),
            ("ssh-rsa", &["rsa-sha2-512", "rsa-sha2-256"]),
        ] {
            let has = |entry: &Entry| entry.kind == Kind::Plain && entry.key.kind() == kind;
            if self.of(names).any(has) {
                algorithms.extend(of_kind);
            }
        }
        if algorithms.is_empty() {
            // It will not be believed; the sentence says which key it shows.
            algorithms.push("ssh-ed25519");
            algorithms.push("ecdsa-sha2-nistp256");
            algorithms.push("rsa-sha2-512");
        }
        algorithms
    }

    /// Whether a host with these names is believed. `now`: seconds since 1970.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn believes(&self, names: &[String], shown: &HostKey, now: u64) -> Result<(), String> {
        let entries: Vec<&Entry> = self.of(names).collect();
        let fingerprint = shown.key.fingerprint();
        let vouched = shown.certificate.as_ref().map(|certificate| &certificate.authority);
        let revoked = |entry: &&&Entry| {
            entry.kind == Kind::Revoked && (entry.key == shown.key || Some(&entry.key) == vouched)
        };
        if entries.iter().any(|entry| revoked(&entry)) {
            return Err(format!("its host key {fingerprint} is revoked"));
        }
        let is_known = |key: &PublicKey| {
            entries.iter().any(|entry| entry.kind == Kind::Plain && entry.key == *key)
        };
        if let Some(certificate) = &shown.certificate {
            let known = |entry: &&Entry| {
                entry.kind == Kind::Authority && entry.key == certificate.authority
            };
            if !entries.iter().any(known) {
                // It has signed with the key itself, and the certificate says nothing.
                if is_known(&shown.key) {
                    return Ok(());
                }
                return Err(format!(
                    "its host certificate is by an authority that is not known: {}",
                    certificate.authority.fingerprint()
                ));
            }
            if !certificate.is_host || certificate.critical {
                return Err("its certificate is none for hosts".into());
            }
            if !(certificate.valid_after..certificate.valid_before).contains(&now) {
                return Err("its host certificate is not valid now".into());
            }
            let asked = |principal: &String| names.contains(principal);
            if !certificate.principals.iter().any(asked) {
                return Err(format!(
                    "its host certificate is for {}, and not for {}",
                    certificate.principals.join(", "),
                    names.join(" or ")
                ));
            }
            return Ok(());
        }
        if is_known(&shown.key) {
            return Ok(());
        }
        let kind = shown.key.kind();
        Err(if entries.iter().all(|entry| entry.kind != Kind::Plain) {
            format!("its host key is not known: it shows {kind} {fingerprint}")
        } else {
            format!(
                "its host key is another than the one that is known: it shows {kind} {fingerprint}"
            )
        })
    }
}

/// Whether a line is for a host with one of these names.
fn fits(hosts: &HostPatterns, names: &[String]) -> bool {
    match hosts {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            names.iter().any(|name| hmac::verify(&key, name.as_bytes(), hash).is_ok())
        }
        HostPatterns::Patterns(patterns) => {
            let matches = |pattern: &str| {
                let pattern = WildMatch::new(&pattern.to_lowercase());
                names.iter().any(|name| pattern.matches(&name.to_lowercase()))
            };
            let denied = |pattern: &String| pattern.strip_prefix('!').is_some_and(matches);
            !patterns.iter().any(denied) && patterns.iter().any(|pattern| matches(pattern))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::SecretKey, *};

    fn line(key: &PublicKey) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!("{} {}", key.kind(), STANDARD.encode(key.blob()))
    }

    fn shown(key: &SecretKey) -> HostKey {
        HostKey { key: key.public().clone(), certificate: None }
    }

    #[test]
    fn a_host_is_believed_by_its_own_lines_alone() {
        let (a, b) = (SecretKey::generate().expect("a").0, SecretKey::generate().expect("b").0);
        let mut known = Known::default();
        known
            .add_file(&format!(
                "# of ours\n1.2.3.4 1024 35 12345\n\tweb.internal,10.0.0.* \t {}\n!10.0.0.9,[10.0.0.*]:2222 {}\n@revoked * {}\n",
                line(a.public()),
                line(a.public()),
                line(b.public())
            ))
            .expect("read");
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert!(known.believes(&names(&["10.0.0.7"]), &shown(&a), 0).is_ok());
        assert!(known.believes(&names(&["WEB.internal"]), &shown(&a), 0).is_ok());
        assert!(known.believes(&names(&["[10.0.0.7]:2222"]), &shown(&a), 0).is_ok());
        let other = known.believes(&names(&["10.1.0.7"]), &shown(&a), 0).expect_err("unknown");
        assert!(other.contains("not known"), "{other}");
        let silent = |name: &str, key: &SecretKey| known.is_silent(&names(&[name]), &shown(key));
        assert!(silent("10.1.0.7", &a) && !silent("10.1.0.7", &b) && !silent("web.internal", &a));
        let revoked = known.believes(&names(&["10.0.0.7"]), &shown(&b), 0).expect_err("revoked");
        assert!(revoked.contains("revoked"), "{revoked}");
        let passed_over = Known::default().add_file("web ssh-ed25519 nonsense\n");
        assert_eq!(passed_over.map(|lines| lines.len()), Ok(1));
        assert!(Known::default().add_file("@revoked web ssh-ed25519 nonsense").is_err());
        known.forget(a.public());
        assert!(known.believes(&names(&["10.0.0.7"]), &shown(&a), 0).is_err());
    }

    #[test]
    fn a_key_can_be_named_for_all() {
        let key = SecretKey::generate().expect("a key").0;
        let mut known = Known::default();
        known.add_key(&format!("{} a comment", line(key.public()))).expect("read");
        assert!(known.believes(&["x".into()], &shown(&key), 0).is_ok());
        assert_eq!(known.algorithms(&["x".into()]), ["ssh-ed25519"]);
    }
}
