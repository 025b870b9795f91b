//! `[[anchor]]`: places that the log's checkpoints are sent to.
//!
//! Does not belong here: sending them (`anchors.rs`).

use std::{
    collections::HashSet,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use chaperone_audit::note::Verifier;
use rusty_s3::{Bucket, UrlStyle};
use serde::Deserialize;
use toml::Spanned;

use super::{Misplaced, duration, named};
use crate::{outbound::is_guarded, secret::Source};

/// Where journald listens (systemd.journal-fields(7), "Native protocol").
const JOURNALD: &str = "/run/systemd/journal/socket";
/// Where the host's syslog listens.
const DEV_LOG: &str = "/dev/log";
/// Longest `every`, `lag` and `retain`.
const LONGEST: Duration = Duration::from_hours(24);
const MOST_DAYS: u32 = 36_500;

/// A place that the log's checkpoints are sent to.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    pub(crate) name: String,
    /// As the configuration says it.
    pub(crate) to: String,
    pub(crate) destination: Destination,
    /// How long after one checkpoint the next one goes.
    pub(crate) every: Duration,
    /// How long it may be that none was taken before an alarm is raised.
    pub(crate) lag: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum Destination {
    /// journald's socket.
    Journald(PathBuf),
    Syslog(Syslog),
    /// A folder, best on another mount.
    Folder(PathBuf),
    /// A witness (c2sp.org/tlog-witness): its submission prefix and its key.
    Witness {
        prefix: String,
        key: Verifier,
    },
    ObjectStore(Box<ObjectStore>),
}

/// How a syslog server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Syslog {
    /// A datagram socket.
    Unix(PathBuf),
    /// Host and port.
    Udp(String),
    /// Host and port.
    Tcp(String),
}

/// S3 or what speaks like it.
#[derive(Clone, Debug)]
pub(crate) struct ObjectStore {
    pub(crate) bucket: Bucket,
    /// What objects' names begin with: nothing, or something that ends with a slash.
    pub(crate) prefix: String,
    pub(crate) access_key: Source,
    pub(crate) secret_key: Source,
    /// For how long nobody may remove an object.
    pub(crate) retain_days: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    to: Spanned<String>,
    every: Option<Spanned<String>>,
    lag: Option<Spanned<String>>,
    vkey: Option<Spanned<String>>,
    endpoint: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    access_key: Option<Spanned<String>>,
    secret_key: Option<Spanned<String>>,
    retain_days: Option<Spanned<u32>>,
}

pub(super) fn check(all: Vec<Raw>) -> Result<Vec<Anchor>, Misplaced> {
    let mut names = HashSet::new();
    let mut anchors = Vec::new();
    for raw in all {
        let span = raw.name.span();
        let anchor = raw.check()?;
        if !names.insert(anchor.name.clone()) {
            return Err((span, format!("there are two anchors {:?}", anchor.name)));
        }
        anchors.push(anchor);
    }
    Ok(anchors)
}

impl Raw {
    fn check(self) -> Result<Anchor, Misplaced> {
        let name = named(&self.name).map_err(|message| (self.name.span(), message))?;
        let time = |text: &Option<Spanned<String>>, default| match text {
            Some(text) => duration(text, LONGEST),
            None => Ok(default),
        };
        let every = time(&self.every, Duration::from_mins(1))?;
        if every < Duration::from_secs(1) {
            return Err((span_of(self.every.as_ref()), "every is at least \"1s\"".into()));
        }
        let lag = time(&self.lag, Duration::from_mins(10).max(every * 3))?;
        if lag <= every {
            let span = if self.lag.is_some() {
                span_of(self.lag.as_ref())
            } else {
                span_of(self.every.as_ref())
            };
            return Err((span, format!("lag is longer than every, which is {every:?}")));
        }
        let destination = self.destination()?;
        self.refuse_others(&destination)?;
        Ok(Anchor { name, to: self.to.into_inner(), destination, every, lag })
    }

    fn destination(&self) -> Result<Destination, Misplaced> {
        let (text, span) = (self.to.get_ref().as_str(), self.to.span());
        let wrong = |message: &str| (span.clone(), message.to_owned());
        let path = |path: &str| {
            let path = PathBuf::from(path);
            if path.is_absolute() { Ok(path) } else { Err(wrong("a path begins with '/'")) }
        };
        let address = |address: &str| match address.rsplit_once(':') {
            Some((host, port))
                if !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0) =>
            {
                Ok(address.to_owned())
            }
            _ => Err(wrong("a syslog server is host:port")),
        };
        if text == "journald" {
            return Ok(Destination::Journald(JOURNALD.into()));
        }
        if text == "syslog" {
            return Ok(Destination::Syslog(Syslog::Unix(DEV_LOG.into())));
        }
        match text.split_once(':') {
            Some(("journald", rest)) => Ok(Destination::Journald(path(rest)?)),
            Some(("syslog", rest)) => Ok(Destination::Syslog(Syslog::Unix(path(rest)?))),
            Some(("file", rest)) => Ok(Destination::Folder(path(rest)?)),
            Some((scheme @ ("udp" | "tcp"), rest)) if rest.starts_with("//") => {
                let address = address(&rest[2..])?;
                let udp = scheme == "udp";
                Ok(Destination::Syslog(if udp {
                    Syslog::Udp(address)
                } else {
                    Syslog::Tcp(address)
                }))
            }
            Some(("http" | "https", _)) => self.witness(text),
            Some(("s3", rest)) if rest.starts_with("//") => self.object_store(&rest[2..]),
            _ => Err(wrong(
                "to is \"journald\", \"syslog\", \"udp://host:port\", \"tcp://host:port\", \"file:/folder\", \
                 \"https://…\" of a witness, or \"s3://bucket/prefix\"",
            )),
        }
    }

    fn witness(&self, text: &str) -> Result<Destination, Misplaced> {
        if !is_guarded(text) {
            let message = "a witness is reached by https://, or is on this host";
            return Err((self.to.span(), message.into()));
        }
        let Some(vkey) = &self.vkey else {
            let message = "vkey is missing: the witness's public key, <name>+<id>+<key>";
            return Err((self.to.span(), message.into()));
        };
        let key =
            Verifier::parse(vkey.get_ref()).map_err(|error| (vkey.span(), error.to_string()))?;
        if !key.cosigns() {
            let message = "this is a log's key: a witness has one for cosignatures (type 4)";
            return Err((vkey.span(), message.into()));
        }
        Ok(Destination::Witness { prefix: text.trim_end_matches('/').into(), key })
    }

    fn object_store(&self, place: &str) -> Result<Destination, Misplaced> {
        let to = || self.to.span();
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let Some(region) = &self.region else {
            return Err((to(), "region is missing: such as \"eu-central-1\"".into()));
        };
        let (endpoint, style) = match &self.endpoint {
            Some(endpoint) if !is_guarded(endpoint.get_ref()) => {
                let message = "an endpoint is reached by https://, or is on this host";
                return Err((endpoint.span(), message.into()));
            }
            Some(endpoint) => (endpoint.get_ref().clone(), UrlStyle::Path),
            // A name with dots is in no certificate.
            None if name.contains('.') => (amazon(region.get_ref()), UrlStyle::Path),
            None => (amazon(region.get_ref()), UrlStyle::VirtualHost),
        };
        let at = self.endpoint.as_ref().map_or_else(to, Spanned::span);
        let endpoint =
            endpoint.parse().map_err(|error| (at, format!("this is no address: {error}")))?;
        let bucket = Bucket::new(endpoint, style, name.to_owned(), region.get_ref().clone())
            .map_err(|error| (to(), format!("this is no bucket: {error}")))?;
        if name.is_empty() {
            return Err((to(), "a bucket is missing: \"s3://bucket/prefix\"".into()));
        }
        let secret = |name: &str, text: &Option<Spanned<String>>| match text {
            None => Err((to(), format!("{name} is missing"))),
            Some(text) => {
                text.get_ref().parse::<Source>().map_err(|message| (text.span(), message))
            }
        };
        let retain_days = match &self.retain_days {
            Some(days) if !(1..=MOST_DAYS).contains(days.get_ref()) => {
                return Err((days.span(), format!("retain_days is 1 to {MOST_DAYS}")));
            }
            Some(days) => *days.get_ref(),
            None => 365,
        };
        Ok(Destination::ObjectStore(Box::new(ObjectStore {
            bucket,
            prefix,
            access_key: secret("access_key", &self.access_key)?,
            secret_key: secret("secret_key", &self.secret_key)?,
            retain_days,
        })))
    }

    /// What is said and would do nothing.
    fn refuse_others(&self, destination: &Destination) -> Result<(), Misplaced> {
        let witness = matches!(destination, Destination::Witness { .. });
        let store = matches!(destination, Destination::ObjectStore(_));
        let spans = [
            (witness, "vkey", self.vkey.as_ref().map(Spanned::span)),
            (store, "endpoint", self.endpoint.as_ref().map(Spanned::span)),
            (store, "region", self.region.as_ref().map(Spanned::span)),
            (store, "access_key", self.access_key.as_ref().map(Spanned::span)),
            (store, "secret_key", self.secret_key.as_ref().map(Spanned::span)),
            (store, "retain_days", self.retain_days.as_ref().map(Spanned::span)),
        ];
        for (fits, name, span) in spans {
            if let (false, Some(span)) = (fits, span) {
                let of = if name == "vkey" { "a witness" } else { "an s3:// anchor" };
                return Err((span, format!("{name} is of {of} alone")));
            }
        }
        Ok(())
    }
}

impl Anchor {
    /// The folder of one that is a folder.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.destination {
            Destination::Folder(folder) => Some(folder),
            _ => None,
        }
    }
}

fn amazon(region: &str) -> String {
    format!("https://s3.{region}.amazonaws.com")
}

fn span_of(text: Option<&Spanned<String>>) -> Range<usize> {
    text.map_or(0..0, Spanned::span)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::parse, *};

    /// The example of c2sp.org/signed-note, and the same key as a witness has it.
    const LOG_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    fn vkey() -> String {
        let key = LOG_KEY.rsplit_once('+').expect("a key").1;
        Verifier::cosigner("w.example", &key_bytes(key)).expect("a key").to_string()
    }

    fn key_bytes(text: &str) -> Vec<u8> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).expect("base64")[1..].to_vec()
    }

    fn anchors(lines: &str) -> Result<Vec<Anchor>, String> {
        parse(&format!("[[anchor]]\nname = \"a\"\n{lines}\n")).map(|config| config.anchors)
    }

    #[test]
    fn each_kind_is_read() {
        let store = "region = \"r\"\naccess_key = \"file:/a\"\nsecret_key = \"file:/b\"";
        let vkey = vkey();
        for (lines, want) in [
            ("to = \"journald\"".to_owned(), "Journald(\"/run/systemd/journal/socket\")"),
            ("to = \"journald:/x\"".into(), "Journald(\"/x\")"),
            ("to = \"syslog\"".into(), "Syslog(Unix(\"/dev/log\"))"),
            ("to = \"udp://[::1]:514\"".into(), "Syslog(Udp(\"[::1]:514\"))"),
            ("to = \"tcp://logs:601\"".into(), "Syslog(Tcp(\"logs:601\"))"),
            ("to = \"file:/mnt/x\"".into(), "Folder(\"/mnt/x\")"),
            (
                format!("to = \"https://w.example/a/\"\nvkey = \"{vkey}\""),
                "Witness { prefix: \"https://w.example/a\"",
            ),
            (format!("to = \"s3://b/p/q/\"\n{store}"), "prefix: \"p/q/\""),
        ] {
            let found = format!("{:?}", anchors(&lines).expect("good")[0].destination);
            assert!(found.contains(want), "{found}");
        }
    }

    #[test]
    fn every_mistake_says_what_is_wrong() {
        let vkey = vkey();
        for (lines, why) in [
            ("to = \"elsewhere\"".to_owned(), "to is \"journald\""),
            ("to = \"file:x\"".into(), "a path begins with '/'"),
            ("to = \"udp://host\"".into(), "host:port"),
            ("to = \"https://w\"".into(), "vkey is missing"),
            (format!("to = \"http://w\"\nvkey = \"{vkey}\""), "by https://"),
            (format!("to = \"https://w\"\nvkey = \"{LOG_KEY}\""), "this is a log's key"),
            (format!("to = \"https://w\"\nvkey = \"{vkey}x\""), "verifier's key"),
            (format!("to = \"journald\"\nvkey = \"{vkey}\""), "vkey is of a witness alone"),
            ("to = \"journald\"\nregion = \"r\"".into(), "region is of an s3:// anchor alone"),
            ("to = \"s3://b\"".into(), "region is missing"),
            ("to = \"s3://b\"\nregion = \"r\"".into(), "access_key is missing"),
            (
                "to = \"s3://b\"\nregion = \"r\"\naccess_key = \"AKIA\"".into(),
                "say where the secret is",
            ),
            ("to = \"syslog\"\nevery = \"5m\"\nlag = \"5m\"".into(), "lag is longer than every"),
            ("to = \"syslog\"\nevery = \"1ms\"".into(), "at least \"1s\""),
            ("to = \"syslog\"\n[[anchor]]\nname = \"a\"\nto = \"journald\"".into(), "two anchors"),
        ] {
            let error = anchors(&lines).expect_err(&lines);
            assert!(error.contains(why), "{lines}: {error}");
        }
    }
}
