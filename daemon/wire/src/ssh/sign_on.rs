//! Signing on (RFC 4252, RFC 4256), as a server hears it and as a client does it.
//!
//! Does not belong here: whom to let in. A key that is only offered proves nothing, and one that
//! signed is not asked for here: who an agent is, the kernel says.

use std::{collections::VecDeque, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{
    SecretKey, Violation,
    codec::{Put, Reader, message},
};

const SERVICE_REQUEST: u8 = 5;
const SERVICE_ACCEPT: u8 = 6;
const REQUEST: u8 = 50;
const FAILURE: u8 = 51;
const SUCCESS: u8 = 52;
const BANNER: u8 = 53;
/// Means different things under different methods.
const INFO: u8 = 60;
const INFO_RESPONSE: u8 = 61;

const CONNECTION: &str = "ssh-connection";

/// What a client asks for while it signs on.
#[derive(Debug)]
pub enum Request {
    /// To be allowed to sign on.
    Service,
    /// To be let in.
    LetIn {
        /// As which account.
        user: String,
        /// How.
        method: Method,
    },
    /// It answers what it was asked.
    Answers(Vec<SecretString>),
}

/// How a client wants to be let in.
#[derive(Debug)]
pub enum Method {
    /// Without anything.
    None,
    /// With a password.
    Password(SecretString),
    /// With a key; this one has not signed.
    Offer {
        /// The key's algorithm and bytes.
        algorithm: Vec<u8>,
        /// The key.
        key: Vec<u8>,
    },
    /// With a key that has signed, which is not verified here.
    Key {
        /// The key's algorithm.
        algorithm: String,
    },
    /// By answers to questions.
    Interactive,
    /// In another way.
    Other(String),
}

impl Request {
    /// Reads a message of a client that is not let in yet.
    ///
    /// # Errors
    /// A [`Violation`].
    pub fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut read = Reader::new(payload);
        match read.u8()? {
            SERVICE_REQUEST => match read.text()? {
                "ssh-userauth" => Ok(Self::Service),
                _ => Err(Violation::Misplaced { number: SERVICE_REQUEST, place: "here" }),
            },
            REQUEST => {
                let (user, service) = (read.text()?.to_owned(), read.text()?);
                if service != CONNECTION {
                    return Err(Violation::Misplaced {
                        number: REQUEST,
                        place: "for this service",
                    });
                }
                let method = match read.text()? {
                    "none" => Method::None,
                    "password" => {
                        let changes = read.bool()?;
                        let password = SecretString::from(read.text()?);
                        if changes {
                            return Ok(Self::LetIn {
                                user,
                                method: Method::Other("password".into()),
                            });
                        }
                        Method::Password(password)
                    }
                    "publickey" => {
                        let signed = read.bool()?;
                        let (algorithm, key) = (read.string()?, read.string()?);
                        if signed {
                            Method::Key { algorithm: String::from_utf8_lossy(algorithm).into() }
                        } else {
                            Method::Offer { algorithm: algorithm.into(), key: key.into() }
                        }
                    }
                    "keyboard-interactive" => Method::Interactive,
                    other => Method::Other(other.to_owned()),
                };
                Ok(Self::LetIn { user, method })
            }
            INFO_RESPONSE => {
                let count = read.u32()?;
                if count > 16 {
                    return Err(Violation::TooMany("answers to one question"));
                }
                let answers = (0..count).map(|_| read.text().map(SecretString::from));
                Ok(Self::Answers(answers.collect::<Result<_, _>>()?))
            }
            number => Err(Violation::Misplaced { number, place: "before the client is let in" }),
        }
    }
}

/// What a server says to it.
pub mod answer {
    use super::{BANNER, FAILURE, INFO, Put, SERVICE_ACCEPT, SUCCESS, message};

    /// It may sign on.
    pub fn service() -> Vec<u8> {
        let mut said = message(SERVICE_ACCEPT);
        said.put_string(b"ssh-userauth");
        said
    }

    /// It is in.
    pub fn success() -> Vec<u8> {
        message(SUCCESS)
    }

    /// It is not, and may try these.
    pub fn failure(methods: &str) -> Vec<u8> {
        let mut said = message(FAILURE);
        said.put_string(methods.as_bytes());
        said.put_bool(false);
        said
    }

    /// A text that its user is shown.
    pub fn banner(text: &str) -> Vec<u8> {
        let mut said = message(BANNER);
        said.put_string(text.as_bytes());
        said.put_string(b"");
        said
    }

    /// An offered key would do.
    pub fn key_would_do(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
        let mut said = message(INFO);
        said.put_string(algorithm);
        said.put_string(key);
        said
    }

    /// It is asked for its password, in a question.
    pub fn ask_password() -> Vec<u8> {
        let mut said = message(INFO);
        said.put_string(b"");
        said.put_string(b"");
        said.put_string(b"");
        said.put_u32(1);
        said.put_string(b"Password: ");
        said.put_bool(false);
        said
    }

    /// It is asked nothing.
    pub fn ask_nothing() -> Vec<u8> {
        let mut said = message(INFO);
        said.put_string(b"");
        said.put_string(b"");
        said.put_string(b"");
        said.put_u32(0);
        said
    }
}

/// What a client has to convince a server.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A key, and the certificate that is shown in its stead.
    Key(Arc<SecretKey>, Option<Vec<u8>>),
    /// A password.
    Password(SecretString),
}

/// Whether an account's name is a name alone. Servers take what follows `:` or `/` for a style or a
/// role and cut it off (OpenSSH's `auth2.c`), and part principals at commas: policy would see another
/// account than the server does.
pub fn is_account(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "._-@\\$+".contains(c);
    (1..=256).contains(&name.len()) && !name.starts_with('-') && name.chars().all(plain)
}

/// How often a server may say that what was shown is a part of what it wants.
const PARTS: u8 = 4;

/// What comes next of signing on.
pub enum SignOnStep {
    /// Nothing, until the server says more.
    Wait,
    /// This is to be sent.
    Send(Zeroizing<Vec<u8>>),
    /// The server has let us in, by this method.
    Done(&'static str),
    /// It does not; it would take these methods.
    Refused(String),
    /// It wants the password to be another one first.
    Expired,
}

impl std::fmt::Debug for SignOnStep {
    // What is sent may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wait => f.write_str("Wait"),
            Self::Send(_) => f.write_str("Send(..)"),
            Self::Done(method) => f.debug_tuple("Done").field(method).finish(),
            Self::Refused(methods) => f.debug_tuple("Refused").field(methods).finish(),
            Self::Expired => f.write_str("Expired"),
        }
    }
}

/// A client that signs on.
#[derive(Debug)]
pub struct SignOn {
    user: String,
    session: Vec<u8>,
    left: VecDeque<Credential>,
    /// Keys that were refused: where several methods are wanted, their turn may come later.
    refused: Vec<Credential>,
    parts: u8,
    trying: Trying,
    /// What a password that is asked for in a question is.
    password: Option<SecretString>,
    /// Texts that the server wants to be shown.
    pub banners: Vec<String>,
}

#[derive(Debug)]
enum Trying {
    Service,
    Nothing,
    Key(Credential),
    Password,
    Questions,
}

impl SignOn {
    /// As this account, in a session with this identifier.
    pub fn new(user: &str, session: &[u8], credentials: Vec<Credential>) -> Self {
        Self {
            user: user.to_owned(),
            session: session.to_owned(),
            left: credentials.into(),
            refused: Vec::new(),
            parts: 0,
            trying: Trying::Service,
            password: None,
            banners: Vec::new(),
        }
    }

    /// The first message.
    pub fn begin(&self) -> Vec<u8> {
        let mut said = message(SERVICE_REQUEST);
        said.put_string(b"ssh-userauth");
        said
    }

    fn request(&self, method: &str) -> Zeroizing<Vec<u8>> {
        let mut said = Zeroizing::new(message(REQUEST));
        said.put_string(self.user.as_bytes());
        said.put_string(CONNECTION.as_bytes());
        said.put_string(method.as_bytes());
        said
    }

    /// A message of the server's.
    ///
    /// # Errors
    /// A [`Violation`].
    pub fn server(&mut self, payload: &[u8]) -> Result<SignOnStep, Violation> {
        let mut read = Reader::new(payload);
        let number = read.u8()?;
        match number {
            SERVICE_ACCEPT if matches!(self.trying, Trying::Service) => self.next(None),
            SUCCESS if !matches!(self.trying, Trying::Service) => {
                Ok(SignOnStep::Done(match self.trying {
                    Trying::Service | Trying::Nothing => "none",
                    Trying::Key(_) => "publickey",
                    Trying::Password => "password",
                    Trying::Questions => "keyboard-interactive",
                }))
            }
            FAILURE => {
                let methods = read.text()?.to_owned();
                let partial = read.bool()?;
                if let Trying::Key(key) = &self.trying
                    && !partial
                {
                    self.refused.push(key.clone());
                }
                if partial && self.parts < PARTS {
                    self.parts += 1;
                    for credential in self.refused.drain(..).rev() {
                        self.left.push_front(credential);
                    }
                }
                self.next(Some(methods))
            }
            BANNER => {
                if self.banners.len() < 16 {
                    let text = String::from_utf8_lossy(read.string()?);
                    self.banners.push(text.chars().take(4096).collect());
                }
                Ok(SignOnStep::Wait)
            }
            // SSH_MSG_USERAUTH_PASSWD_CHANGEREQ (RFC 4252, section 8).
            INFO if matches!(self.trying, Trying::Password) => Ok(SignOnStep::Expired),
            INFO if matches!(self.trying, Trying::Questions) => {
                read.string()?;
                read.string()?;
                read.string()?;
                let count = read.u32()?;
                if count > 16 {
                    return Err(Violation::TooMany("questions"));
                }
                let mut said = Zeroizing::new(message(INFO_RESPONSE));
                said.put_u32(count);
                for _ in 0..count {
                    read.string()?;
                    let echoes = read.bool()?;
                    let password = self.password.as_ref().filter(|_| !echoes);
                    said.put_string(password.map_or("", |p| p.expose_secret()).as_bytes());
                }
                Ok(SignOnStep::Send(said))
            }
            number => Err(Violation::Misplaced { number, place: "while signing on" }),
        }
    }

    /// Tries what is left. `methods`: what the server would take.
    fn next(&mut self, methods: Option<String>) -> Result<SignOnStep, Violation> {
        let takes = |method: &str| {
            methods.as_ref().is_none_or(|all| all.split(',').any(|one| one == method))
        };
        // A server that takes passwords in questions alone.
        if matches!(self.trying, Trying::Password)
            && !takes("password")
            && takes("keyboard-interactive")
        {
            let mut said = self.request("keyboard-interactive");
            said.put_string(b"");
            said.put_string(b"");
            self.trying = Trying::Questions;
            return Ok(SignOnStep::Send(said));
        }
        loop {
            let Some(credential) = self.left.pop_front() else {
                if methods.is_none() {
                    self.trying = Trying::Nothing;
                    return Ok(SignOnStep::Send(self.request("none")));
                }
                return Ok(SignOnStep::Refused(methods.unwrap_or_default()));
            };
            match credential {
                Credential::Key(key, certificate) => {
                    if !takes("publickey") {
                        self.refused.push(Credential::Key(key, certificate));
                        continue;
                    }
                    let mut said = self.request("publickey");
                    said.put_bool(true);
                    if let Some(blob) = &certificate {
                        let name = format!("{}-cert-v01@openssh.com", key.algorithm());
                        said.put_string(name.as_bytes());
                        said.put_string(blob);
                    } else {
                        said.put_string(key.algorithm().as_bytes());
                        said.put_string(key.public().blob());
                    }
                    let mut signed = Vec::new();
                    signed.put_string(&self.session);
                    signed.put(&said);
                    let signature = key
                        .sign(&signed)
                        .map_err(|_| Violation::Exchange("the key does not sign"))?;
                    said.put_string(&signature);
                    self.trying = Trying::Key(Credential::Key(key, certificate));
                    return Ok(SignOnStep::Send(said));
                }
                Credential::Password(password) => {
                    self.password = Some(password.clone());
                    self.trying = Trying::Password;
                    if !takes("password") {
                        return self.next(methods);
                    }
                    let mut said = self.request("password");
                    said.put_bool(false);
                    said.put_string(password.expose_secret().as_bytes());
                    return Ok(SignOnStep::Send(said));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(step: Result<SignOnStep, Violation>) -> Request {
        match step {
            Ok(SignOnStep::Send(said)) => Request::read(&said).expect("read"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_credentials_are_tried_in_their_order() {
        let key = Arc::new(SecretKey::generate().expect("a key").0);
        let credentials =
            vec![Credential::Key(key, None), Credential::Password("geheim".to_owned().into())];
        let mut sign_on = SignOn::new("deploy", b"session", credentials);
        assert!(matches!(Request::read(&sign_on.begin()), Ok(Request::Service)));
        let first = sent(sign_on.server(&answer::service()));
        assert!(matches!(first, Request::LetIn { method: Method::Key { .. }, .. }), "{first:?}");
        let said = sign_on.server(&answer::banner("hello"));
        assert!(matches!(said, Ok(SignOnStep::Wait)));
        // Passwords are taken in questions alone.
        let second = sent(sign_on.server(&answer::failure("publickey,keyboard-interactive")));
        assert!(matches!(second, Request::LetIn { method: Method::Interactive, .. }), "{second:?}");
        let third = sent(sign_on.server(&answer::ask_password()));
        let Request::Answers(answers) = third else { panic!("{third:?}") };
        assert_eq!(answers[0].expose_secret(), "geheim");
        let done = sign_on.server(&answer::success()).expect("read");
        assert!(matches!(done, SignOnStep::Done("keyboard-interactive")), "{done:?}");
    }

    #[test]
    fn a_server_that_wants_several_methods_gets_them_in_its_order() {
        let partly = |methods: &str| {
            let mut said = message(FAILURE);
            said.put_string(methods.as_bytes());
            said.put_bool(true);
            said
        };
        let key = Arc::new(SecretKey::generate().expect("a key").0);
        let credentials =
            vec![Credential::Key(key, None), Credential::Password("geheim".to_owned().into())];
        let mut sign_on = SignOn::new("deploy", b"session", credentials);
        sent(sign_on.server(&answer::service()));
        let second = sent(sign_on.server(&answer::failure("password")));
        assert!(matches!(second, Request::LetIn { method: Method::Password(_), .. }), "{second:?}");
        let third = sent(sign_on.server(&partly("publickey")));
        assert!(matches!(third, Request::LetIn { method: Method::Key { .. }, .. }), "{third:?}");
        assert!(matches!(sign_on.server(&answer::success()), Ok(SignOnStep::Done("publickey"))));
        // One that says so for ever is not followed for ever.
        let mut said = 0;
        let key = Arc::new(SecretKey::generate().expect("a key").0);
        let mut sign_on = SignOn::new("deploy", b"session", vec![Credential::Key(key, None)]);
        sent(sign_on.server(&answer::service()));
        while let SignOnStep::Send(_) = sign_on.server(&answer::failure("publickey")).expect("read")
        {
            said += 1;
            sign_on.server(&partly("password")).expect("read");
            assert!(said < 10);
        }
    }

    #[test]
    fn a_password_that_has_expired_is_said_to_have() {
        let credentials = vec![Credential::Password("geheim".to_owned().into())];
        let mut sign_on = SignOn::new("deploy", b"session", credentials);
        sent(sign_on.server(&answer::service()));
        let mut asks = message(INFO);
        asks.put_string(b"Your password has expired.");
        asks.put_string(b"");
        assert!(matches!(sign_on.server(&asks), Ok(SignOnStep::Expired)));
        assert_eq!(format!("{:?}", SignOnStep::Send(Zeroizing::new(vec![1]))), "Send(..)");
    }

    #[test]
    fn p3_an_account_is_a_name_and_nothing_behind_it() {
        for name in ["root", "svc-web_2", "ada@example.org", "DOMAIN\\ada", "host$", "müller"] {
            assert!(is_account(name), "{name}");
        }
        let long = "a".repeat(257);
        for name in ["", "root:x", "root/sysadm_r", "root:,root", "a b", "a\n", "-oX", &long, "a\0"]
        {
            assert!(!is_account(name), "{name:?}");
        }
    }

    #[test]
    fn a_server_that_takes_nothing_of_it_is_told() {
        let mut sign_on =
            SignOn::new("deploy", b"session", vec![Credential::Password("x".to_owned().into())]);
        sent(sign_on.server(&answer::service()));
        let step = sign_on.server(&answer::failure("publickey")).expect("read");
        assert!(matches!(step, SignOnStep::Refused(methods) if methods == "publickey"));
    }

    #[test]
    fn p8_nothing_else_comes_before_a_client_is_let_in() {
        for payload in [&[80, 0][..], &[90], &[], &[50, 0, 0, 0, 9, 1]] {
            assert!(Request::read(payload).is_err(), "{payload:?}");
        }
    }
}
