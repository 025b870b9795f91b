//! Signing on to a server with the daemon's own credential (protocol-flow, "Start-up").
//!
//! From after the start-up message to `AuthenticationOk`, which is left for the conversation that
//! follows. What the server says on the way and the client must hear is kept for it.

use std::{fmt::Write, sync::Arc};

use md5::Md5;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{
    backend,
    expect::ServerError,
    frame::{Body, HEADER, Tag, Violation, header},
    reply::message,
    salted::{Derivation, Derived, SaltedKeys},
    scram::{self, Binding, NONCE, ScramError},
};

/// Longest message of a server before it has accepted a sign-on.
const LONGEST: usize = 64 << 10;
/// All that a server may say before that.
const MOST: usize = 256 << 10;
/// Bytes that are kept for the client.
const KEPT: usize = 16 << 10;

const SCRAM: &str = "SCRAM-SHA-256";
pub(super) const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// SCRAM-SHA-256, bound to the TLS connection or not.
    Scram,
    /// The password's MD5 hash.
    Md5,
    /// The password itself.
    Password,
    /// None of them: the server lets the account in without asking.
    None,
}

impl Method {
    /// All of them, by the names that `pg_hba.conf` and libpq's `require_auth` use.
    pub const ALL: [(&'static str, Self); 4] = [
        ("scram-sha-256", Self::Scram),
        ("md5", Self::Md5),
        ("password", Self::Password),
        ("none", Self::None),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }
}

/// What the daemon signs on with.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user at the server.
    pub user: String,
    /// Where there is none, a client certificate is enough, or the server's trust.
    pub password: Option<SecretString>,
    /// The ways in which the server may be satisfied.
    pub methods: Vec<Method>,
    /// Keys that were derived from the password.
    pub keys: Arc<SaltedKeys>,
    /// The server has proven by TLS who it is.
    pub verified: bool,
    /// The server certificate's hash for SCRAM's channel binding, where there is TLS.
    pub channel: Option<Vec<u8>>,
}

/// What to do next.
#[derive(Debug)]
pub enum SignOnStep {
    /// So many bytes have been dealt with, and so many are needed behind them.
    Need(usize, usize),
    /// So many bytes have been dealt with, and this is to be sent.
    Send(usize, Zeroizing<Vec<u8>>),
    /// It is done: so many bytes have been dealt with; `AuthenticationOk` comes next, and is left.
    Done(usize),
}

/// Why a sign-on failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignOnError {
    /// The server said so.
    #[error("the server said {}: {}", .0.code.as_deref().unwrap_or("nothing"), .0.message.as_deref().unwrap_or("nothing"))]
    Server(ServerError),
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The server wants something that is not spoken here.
    #[error("the server asks for {0}, which chaperone does not know")]
    Unknown(String),
    /// The server let the account in without asking.
    #[error(
        "the server asked for no password, so that it may be another than it seems to be: where it is to let this account in unasked, have `methods` contain \"none\""
    )]
    Unasked,
    /// The server wants the password in a way that may not be used.
    #[error("the server asks for the method {}, which `methods` does not allow here", .0.as_str())]
    NotAllowed(Method),
    /// There is no password.
    #[error("the server asks for a password, and the credential has none")]
    NoPassword,
    /// The server does not come to an end.
    #[error("the server says more than {MOST} bytes and does not accept the sign-on")]
    Endless,
    /// The exchange failed.
    #[error("the server was not believed: {0}")]
    Scram(String),
}

impl From<ScramError> for SignOnError {
    fn from(error: ScramError) -> Self {
        Self::Scram(error.to_string())
    }
}

/// A sign-on under way.
pub struct SignOn {
    account: Account,
    nonce: [u8; NONCE],
    state: State,
    kept: Vec<u8>,
    method: Option<Method>,
    bound: bool,
    /// Bytes that have been dealt with.
    heard: usize,
}

enum State {
    /// The server has not said what it wants.
    Begun,
    First(scram::First),
    Proven(scram::Proven),
    /// All that it asked for was sent.
    Answered,
}

impl SignOn {
    /// The start-up message has been sent. `nonce` is random and used once.
    pub fn new(account: Account, nonce: [u8; NONCE]) -> Self {
        let (state, kept) = (State::Begun, Vec::new());
        Self { account, nonce, state, kept, method: None, bound: false, heard: 0 }
    }

    /// Messages that the client is to get before what comes next.
    pub fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// The method by which the server was convinced; `None` where it asked for nothing.
    pub fn how(&self) -> Option<&'static str> {
        self.method.map(|method| match method {
            Method::Scram if self.bound => "scram-sha-256-plus",
            method => method.as_str(),
        })
    }

    /// What the server's next request needs to have derived, where it is not there yet. To be run
    /// where others do not wait for it, and handed to [`SignOn::derived`], before the same bytes go
    /// to [`SignOn::server`].
    pub fn derivation(&self, bytes: &[u8]) -> Option<Derivation> {
        let State::First(first) = &self.state else { return None };
        let mut rest = bytes;
        let mut body = loop {
            let header = header(rest).ok()??;
            let whole = rest.get(..header.length)?;
            match header.tag {
                b'N' => rest = rest.get(header.length..)?,
                b'R' => break Body::of(whole),
                _ => return None,
            }
        };
        if body.u32() != Ok(11) {
            return None;
        }
        let (challenge, _) = first.read(body.rest(), self.account.verified).ok()?;
        if self.account.keys.has(&challenge) {
            return None;
        }
        let password = self.account.password.clone()?;
        Some(Derivation { password, challenge, keys: self.account.keys.clone() })
    }

    /// Takes what was derived.
    pub fn derived(&mut self, derived: Derived) {
        if let State::First(first) = &mut self.state {
            first.derived = Some(derived);
        }
    }

    /// Looks at the server's bytes.
    ///
    /// # Errors
    /// A [`SignOnError`]: it cannot go on.
    pub fn server(&mut self, bytes: &[u8]) -> Result<SignOnStep, SignOnError> {
        let mut done = 0;
        loop {
            let rest = bytes.get(done..).unwrap_or_default();
            let Some(header) = header(rest)? else { return Ok(SignOnStep::Need(done, HEADER)) };
            if header.length > LONGEST {
                let length = i64::try_from(header.length).unwrap_or(i64::MAX);
                return Err(Violation::Length { tag: Tag(header.tag), length }.into());
            }
            let Some(whole) = rest.get(..header.length) else {
                return Ok(SignOnStep::Need(done, header.length));
            };
            self.heard += whole.len();
            if self.heard > MOST {
                return Err(SignOnError::Endless);
            }
            match header.tag {
                b'E' => return Err(SignOnError::Server(backend::error(whole))),
                // NegotiateProtocolVersion and notices are for the client.
                b'v' | b'N' => {
                    if self.kept.len() + whole.len() <= KEPT {
                        self.kept.extend_from_slice(whole);
                    }
                    done += whole.len();
                }
                b'R' => {
                    let mut body = Body::of(whole);
                    let request = body.u32()?;
                    if request == 0 {
                        return self.accepted().map(|()| SignOnStep::Done(done));
                    }
                    done += whole.len();
                    if let Some(answer) = self.answer(request, body)? {
                        return Ok(SignOnStep::Send(done, Zeroizing::new(message(b'p', &answer))));
                    }
                }
                _ => {
                    let place = "from a server during sign-on";
                    return Err(Violation::Unexpected { tag: Tag(header.tag), place }.into());
                }
            }
        }
    }

    /// The server says that it is satisfied: with SCRAM it must have proven itself before.
    fn accepted(&self) -> Result<(), SignOnError> {
        match self.state {
            State::Begun if !self.account.methods.contains(&Method::None) => {
                Err(SignOnError::Unasked)
            }
            State::Begun | State::Answered => Ok(()),
            State::First(_) | State::Proven(_) => Err(ScramError::Unproven.into()),
        }
    }

    /// One request (protocol-message-formats, "Authentication…").
    fn answer(
        &mut self,
        request: u32,
        mut body: Body<'_>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, SignOnError> {
        let state = std::mem::replace(&mut self.state, State::Answered);
        match (request, state) {
            (3, State::Begun) => {
                let password = self.password(Method::Password)?;
                Ok(Some(terminated(password.expose_secret())))
            }
            (5, State::Begun) => {
                let salt = body.bytes(4)?;
                let user = self.account.user.clone();
                let password = self.password(Method::Md5)?;
                Ok(Some(terminated(&hashed(&user, password, salt))))
            }
            (10, State::Begun) => self.begin_scram(body).map(Some),
            (11, State::First(first)) => {
                let (keys, verified) = (self.account.keys.clone(), self.account.verified);
                let password = self.password(Method::Scram)?;
                let (proven, answer) = first.prove(body.rest(), password, &keys, verified)?;
                self.state = State::Proven(proven);
                Ok(Some(Zeroizing::new(answer)))
            }
            (12, State::Proven(proven)) => {
                proven.finish(body.rest())?;
                Ok(None)
            }
            (2, _) => Err(SignOnError::Unknown("Kerberos V5".into())),
            (7, _) => Err(SignOnError::Unknown("GSSAPI".into())),
            (9, _) => Err(SignOnError::Unknown("SSPI".into())),
            (3 | 5 | 10..=12, _) => {
                Err(body.malformed("it does not belong to this point of the sign-on").into())
            }
            (other, _) => Err(SignOnError::Unknown(format!("authentication method {other}"))),
        }
    }

    fn begin_scram(&mut self, body: Body<'_>) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        let offered = backend::mechanisms(body)?;
        self.password(Method::Scram)?;
        let plus = offered.contains(&SCRAM_PLUS);
        let (name, binding) = match (&self.account.channel, plus) {
            (Some(hash), true) => (SCRAM_PLUS, Binding::ServerEndPoint(hash.clone())),
            (Some(_), false) => (SCRAM, Binding::NotOffered),
            (None, _) => (SCRAM, Binding::Impossible),
        };
        if !offered.contains(&name) {
            return Err(SignOnError::Unknown(offered.join(", ")));
        }
        self.bound = name == SCRAM_PLUS;
        let (first, answer) = scram::First::begin(binding, &self.nonce);
        self.state = State::First(first);
        let mut out = Zeroizing::new(name.as_bytes().to_vec());
        out.push(0);
        out.extend(i32::try_from(answer.len()).unwrap_or(i32::MAX).to_be_bytes());
        out.extend(answer);
        Ok(out)
    }

    fn password(&mut self, method: Method) -> Result<&SecretString, SignOnError> {
        let password = self.account.password.as_ref().ok_or(SignOnError::NoPassword)?;
        if !self.account.methods.contains(&method) {
            return Err(SignOnError::NotAllowed(method));
        }
        self.method = Some(method);
        Ok(password)
    }
}

fn terminated(text: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out
}

/// `AuthenticationMD5Password`: "md5" and the hash of the hash of password and user, with the salt.
fn hashed(user: &str, password: &SecretString, salt: &[u8]) -> Zeroizing<String> {
    let inner = hex(&[password.expose_secret().as_bytes(), user.as_bytes()]);
    let outer = hex(&[inner.as_bytes(), salt]);
    let mut text = Zeroizing::new(String::with_capacity(35));
    text.push_str("md5");
    text.push_str(&outer);
    text
}

fn hex(parts: &[&[u8]]) -> Zeroizing<String> {
    use md5::Digest;
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    let mut text = Zeroizing::new(String::with_capacity(32));
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(methods: &[Method]) -> Account {
        Account {
            user: "app".into(),
            password: Some(SecretString::from("secret-word")),
            methods: [methods, &[Method::None]].concat(),
            keys: Arc::default(),
            verified: true,
            channel: None,
        }
    }

    impl SignOn {
        /// What a server that knows the password sends last.
        fn expected_proof(&self) -> Vec<u8> {
            let State::Proven(proven) = &self.state else { panic!("no proof is due") };
            proven.expected()
        }
    }

    fn ask(request: u32, body: &[u8]) -> Vec<u8> {
        message(b'R', &[&request.to_be_bytes(), body].concat())
    }

    fn sent(step: SignOnStep) -> Vec<u8> {
        let SignOnStep::Send(_, bytes) = step else { panic!("{step:?}") };
        bytes.to_vec()
    }

    #[test]
    fn p6_a_password_is_sent_only_where_it_may_be() {
        let mut sign_on = SignOn::new(account(&[Method::Password]), [0; NONCE]);
        let step = sign_on.server(&ask(3, b"")).expect("allowed");
        assert_eq!(sent(step), b"p\0\0\0\x10secret-word\0");
        assert!(matches!(sign_on.server(&ask(0, b"")), Ok(SignOnStep::Done(0))));

        for (request, body, method) in [
            (3, &b""[..], Method::Password),
            (5, b"salt", Method::Md5),
            (10, b"SCRAM-SHA-256\0\0", Method::Scram),
        ] {
            let others: Vec<_> =
                Method::ALL.into_iter().map(|(_, m)| m).filter(|m| *m != method).collect();
            let mut sign_on = SignOn::new(account(&others), [0; NONCE]);
            let error = sign_on.server(&ask(request, body)).expect_err("not allowed");
            assert_eq!(error, SignOnError::NotAllowed(method));
        }
    }

    #[test]
    fn md5_is_as_the_server_computes_it() {
        // select 'md5' || md5(md5('secret-wordapp') || 'salt')
        let mut sign_on = SignOn::new(account(&[Method::Md5]), [0; NONCE]);
        let answer = sent(sign_on.server(&ask(5, b"salt")).expect("allowed"));
        assert_eq!(answer.len(), 5 + 35 + 1);
        assert!(answer[5..].starts_with(b"md5"));
    }

    #[test]
    fn p6_a_server_that_skips_its_own_proof_is_not_believed() {
        let mut sign_on = SignOn::new(account(&[Method::Scram]), [0; NONCE]);
        let first = sent(sign_on.server(&ask(10, b"SCRAM-SHA-256\0\0")).expect("allowed"));
        assert!(first.starts_with(b"p\0\0\0"));
        assert!(matches!(sign_on.server(&ask(0, b"")), Err(SignOnError::Scram(_))));
    }

    #[test]
    fn channel_binding_is_used_where_both_sides_can() {
        for (channel, offer, expected) in [
            (Some(b"h".to_vec()), &b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"[..], &b"p=tls"[..]),
            (Some(b"h".to_vec()), b"SCRAM-SHA-256\0\0", b"y,,"),
            (None, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", b"n,,"),
        ] {
            let mut sign_on =
                SignOn::new(Account { channel, ..account(&[Method::Scram]) }, [0; NONCE]);
            let first = sent(sign_on.server(&ask(10, offer)).expect("allowed"));
            let at = first.iter().skip(5).position(|b| *b == 0).expect("a name") + 5 + 5;
            assert!(first[at..].starts_with(expected), "{first:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (request, body) in [(7, &b""[..]), (9, b""), (99, b""), (10, b"OAUTHBEARER\0\0")] {
            let mut sign_on = SignOn::new(account(&[Method::Scram]), [0; NONCE]);
            let error = sign_on.server(&ask(request, body)).expect_err("unknown");
            assert!(matches!(error, SignOnError::Unknown(_)), "{request}: {error:?}");
        }
        let mut none = SignOn::new(Account { password: None, ..account(&[]) }, [0; NONCE]);
        assert_eq!(none.server(&ask(3, b"")).expect_err("none"), SignOnError::NoPassword);
    }

    #[test]
    fn p6_a_server_that_asks_for_nothing_is_believed_only_where_that_is_said() {
        let strict = Account { methods: vec![Method::Scram], ..account(&[]) };
        let mut sign_on = SignOn::new(strict, [0; NONCE]);
        assert_eq!(sign_on.server(&ask(0, b"")).expect_err("unasked"), SignOnError::Unasked);
        let mut sign_on = SignOn::new(account(&[]), [0; NONCE]);
        assert!(matches!(sign_on.server(&ask(0, b"")), Ok(SignOnStep::Done(0))));
    }

    #[test]
    fn p6_a_server_that_is_not_verified_gets_no_cheap_proof() {
        for (verified, iterations, good) in
            [(true, 1, true), (false, 4095, false), (false, 4096, true), (true, 100_001, false)]
        {
            let account = Account { verified, ..account(&[Method::Scram]) };
            let mut sign_on = SignOn::new(account, [7; NONCE]);
            let challenge = challenge(&mut sign_on, iterations);
            let answer = sign_on.server(&challenge);
            assert_eq!(answer.is_ok(), good, "{verified} {iterations}: {answer:?}");
        }
    }

    /// Begins SCRAM; answers what a server would ask next.
    fn challenge(sign_on: &mut SignOn, iterations: u32) -> Vec<u8> {
        let first = sent(sign_on.server(&ask(10, b"SCRAM-SHA-256\0\0")).expect("allowed"));
        let (_, nonce) =
            std::str::from_utf8(&first[5..]).expect("text").split_once("r=").expect("r");
        ask(11, format!("r={nonce}x,s=AAAA,i={iterations}").as_bytes())
    }

    #[test]
    fn p8_what_takes_long_is_told_before_and_done_once() {
        let account = account(&[Method::Scram]);
        let mut first = SignOn::new(account.clone(), [7; NONCE]);
        let asked = [message(b'N', b"\0"), challenge(&mut first, 4096)].concat();
        assert!(first.derivation(&asked[..asked.len() - 1]).is_none(), "it is not whole");
        let derived = first.derivation(&asked).expect("work").run();
        // It is needed here, whatever has become of the kept ones meanwhile.
        first.derived(derived);
        let answer = sent(first.server(&asked).expect("a proof"));

        let mut again = SignOn::new(account, [7; NONCE]);
        let asked = challenge(&mut again, 4096);
        assert!(again.derivation(&asked).is_none(), "the second sign-on has it");
        assert_eq!(sent(again.server(&asked).expect("a proof")), answer);
        let asked = challenge(&mut SignOn::new(self::account(&[Method::Scram]), [7; NONCE]), 9);
        assert!(again.derivation(&asked).is_none(), "nothing is due");
    }

    #[test]
    fn what_the_client_must_hear_is_kept() {
        let mut sign_on = SignOn::new(account(&[]), [0; NONCE]);
        let mut bytes = message(b'v', b"\0\0\0\0\0\0\0\0");
        let kept = bytes.clone();
        bytes.extend(ask(0, b""));
        assert!(matches!(sign_on.server(&bytes), Ok(SignOnStep::Done(13))));
        assert_eq!(sign_on.take_kept(), kept);
    }

    /// As the daemon reads: what has been dealt with is dropped.
    fn piecewise(sign_on: &mut SignOn, pieces: &[&[u8]]) -> Result<usize, SignOnError> {
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend_from_slice(piece);
            match sign_on.server(&bytes)? {
                SignOnStep::Need(done, _) | SignOnStep::Send(done, _) => drop(bytes.drain(..done)),
                SignOnStep::Done(done) => return Ok(bytes.len() - done),
            }
        }
        panic!("it does not end: {bytes:?}")
    }

    #[test]
    fn a_sign_on_that_comes_in_pieces_is_heard_once() {
        let mut sign_on = SignOn::new(account(&[]), [0; NONCE]);
        let negotiate = message(b'v', b"\0\0\0\0\0\0\0\0");
        let accepted = ask(0, b"");
        let left = piecewise(&mut sign_on, &[&negotiate, &accepted[..3], &accepted[3..]]);
        assert_eq!((left, sign_on.take_kept()), (Ok(accepted.len()), negotiate));

        // SCRAM's last message and AuthenticationOk need not come together.
        let mut sign_on = SignOn::new(account(&[Method::Scram]), [7; NONCE]);
        let first = sent(sign_on.server(&ask(10, b"SCRAM-SHA-256\0\0")).expect("allowed"));
        let nonce = first.split(|b| *b == b'=').next_back().expect("a nonce");
        let challenge = [b"r=", nonce, b"x,s=AAAA,i=1"].concat();
        sign_on.server(&ask(11, &challenge)).expect("a proof");
        let last = ask(12, &sign_on.expected_proof());
        assert_eq!(piecewise(&mut sign_on, &[&last, &accepted]), Ok(accepted.len()));
    }

    #[test]
    fn p8_a_server_that_talks_on_is_not_listened_to_for_ever() {
        let mut sign_on = SignOn::new(account(&[]), [0; NONCE]);
        let notice = message(b'N', &[b'x'; 1000]);
        let pieces = vec![&notice[..]; 1000];
        assert_eq!(piecewise(&mut sign_on, &pieces), Err(SignOnError::Endless));
        assert!(sign_on.take_kept().len() <= KEPT);
    }

    #[test]
    fn p6_nothing_of_a_secret_is_shown() {
        let shown = format!("{:?}", account(&[Method::Scram]));
        assert!(!shown.contains("secret-word"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn p8_no_server_panics_the_sign_on(pieces: Vec<(u32, Vec<u8>)>) {
            let mut sign_on = SignOn::new(account(&[Method::Scram, Method::Md5]), [0; NONCE]);
            for (request, body) in pieces {
                if sign_on.server(&ask(request % 14, &body)).is_err() {
                    break;
                }
            }
        }
    }
}
