//! What both sides agree on before they exchange keys (RFC 4253, section 7.1).

use super::{
    super::{
        Violation,
        codec::{Put, Reader, message},
    },
    KEXINIT,
    cipher::{Cipher, Mac},
    exchange::Method,
};

/// Says that sequence numbers begin anew with new keys, and that nothing else is sent before them
/// (OpenSSH's PROTOCOL, section 1.10).
const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";
/// Asks for RFC 8308's message.
const EXTENSIONS: &str = "ext-info-c";

/// What a side offers, or what both agreed on, direction by direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) method: Method,
    pub(crate) host_key: String,
    pub(crate) up: (Cipher, Option<Mac>),
    pub(crate) down: (Cipher, Option<Mac>),
    pub(crate) strict: bool,
    /// The client takes RFC 8308's message.
    pub(crate) extensions: bool,
    /// A packet that was sent on a wrong guess comes, and is thrown away.
    pub(crate) skip: bool,
}

/// The message that says what this side offers.
pub(crate) fn offer(
    is_server: bool,
    host_keys: &[&str],
    first: bool,
) -> Result<Vec<u8>, Violation> {
    let mut cookie = [0; 16];
    aws_lc_rs::rand::fill(&mut cookie)
        .map_err(|_| Violation::Exchange("there is no randomness"))?;
    let mut methods: Vec<&str> = Method::ALL.iter().map(|(name, _)| *name).collect();
    if first {
        if is_server {
            methods.push(STRICT_SERVER);
        } else {
            methods.extend([EXTENSIONS, STRICT_CLIENT]);
        }
    }
    let ciphers = Cipher::ALL.map(|(name, _)| name);
    let macs = Mac::ALL.map(|(name, _)| name);
    let mut offer = message(KEXINIT);
    offer.put(&cookie);
    offer.put_names(&methods);
    offer.put_names(host_keys);
    for _ in 0..2 {
        offer.put_names(&ciphers);
    }
    for _ in 0..2 {
        offer.put_names(&macs);
    }
    for _ in 0..2 {
        // Compressed, it could grow without bounds, and tell what it holds by its length.
        offer.put_names(&["none"]);
    }
    offer.put_names(&[]);
    offer.put_names(&[]);
    offer.put_bool(false);
    offer.put_u32(0);
    Ok(offer)
}

/// What both offers agree on.
pub(crate) fn agree(client: &[u8], server: &[u8], is_server: bool) -> Result<Agreed, Violation> {
    let (c, s) = (Offer::read(client)?, Offer::read(server)?);
    let theirs = if is_server { &c } else { &s };
    let pick = |what, place: usize| -> Result<&str, Violation> {
        let wanted = c.lists[place].split(',').filter(|name| !name.is_empty());
        let has = |name: &&str| s.lists[place].split(',').any(|other| other == *name);
        let marks = [EXTENSIONS, STRICT_CLIENT, STRICT_SERVER];
        wanted.filter(|name| !marks.contains(name)).find(has).ok_or_else(|| {
            let offered = theirs.lists[place].chars().take(300).collect();
            Violation::NothingInCommon { what, offered }
        })
    };
    let known = |name: &str| Method::ALL.iter().find(|(known, _)| *known == name).map(|(_, m)| *m);
    let method = pick("key exchange method", 0)?;
    let host_key = pick("kind of host key", 1)?;
    let direction = |ciphers, macs| -> Result<(Cipher, Option<Mac>), Violation> {
        let name = pick("cipher", ciphers)?;
        let found = Cipher::ALL.iter().find(|(known, _)| *known == name).map(|(_, c)| *c);
        let cipher = found.ok_or(Violation::Exchange("an unknown cipher was agreed on"))?;
        if !cipher.needs_mac() {
            return Ok((cipher, None));
        }
        let name = pick("message authentication code", macs)?;
        Ok((cipher, Mac::ALL.iter().find(|(known, _)| *known == name).map(|(_, mac)| *mac)))
    };
    pick("compression", 6)?;
    pick("compression", 7)?;
    let has = |offer: &Offer, mark: &str| offer.lists[0].split(',').any(|name| name == mark);
    let first =
        |offer: &Offer, place: usize| offer.lists[place].split(',').next().map(str::to_owned);
    let guessed = (0..2).all(|place| first(&c, place) == first(&s, place));
    Ok(Agreed {
        method: known(method).ok_or(Violation::Exchange("an unknown method was agreed on"))?,
        host_key: host_key.to_owned(),
        up: direction(2, 4)?,
        down: direction(3, 5)?,
        strict: has(&c, STRICT_CLIENT) && has(&s, STRICT_SERVER),
        extensions: has(&c, EXTENSIONS),
        skip: theirs.follows && !guessed,
    })
}

struct Offer {
    lists: [String; 8],
    follows: bool,
}

impl Offer {
    fn read(message: &[u8]) -> Result<Self, Violation> {
        let mut read = Reader::new(message.get(17..).ok_or(Violation::Short)?);
        let mut lists: [String; 8] = Default::default();
        for list in &mut lists {
            read.text()?.clone_into(list);
        }
        read.string()?;
        read.string()?;
        let follows = read.bool()?;
        read.u32()?;
        Ok(Self { lists, follows })
    }
}
