//! Sealing and opening packets (RFC 4253, section 6; RFC 5647; OpenSSH's PROTOCOL and
//! PROTOCOL.chacha20poly1305).
//!
//! Does not belong here: which cipher is chosen, and where keys come from.

use aws_lc_rs::{
    aead::{
        AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey, chacha20_poly1305_openssh,
    },
    cipher::{AES_128, AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey},
    hmac,
    iv::FixedLength,
};
use bytes::BytesMut;
use zeroize::Zeroizing;

use super::super::Violation;

/// The bytes of a packet, with its length (RFC 4253, section 6.1 asks for 35,000 at least; OpenSSH
/// takes 256 KiB).
pub(crate) const MOST: u32 = 256 * 1024;
/// The least padding.
const PADDING: usize = 4;
const TAG: usize = 16;

/// A cipher by its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    ChaCha20Poly1305,
    Aes256Gcm,
    Aes128Gcm,
    Aes256Ctr,
    Aes128Ctr,
}

impl Cipher {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("aes256-gcm@openssh.com", Self::Aes256Gcm),
        ("chacha20-poly1305@openssh.com", Self::ChaCha20Poly1305),
        ("aes128-gcm@openssh.com", Self::Aes128Gcm),
        ("aes256-ctr", Self::Aes256Ctr),
        ("aes128-ctr", Self::Aes128Ctr),
    ];

    pub(crate) fn key_length(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 => chacha20_poly1305_openssh::KEY_LEN,
            Self::Aes256Gcm | Self::Aes256Ctr => 32,
            Self::Aes128Gcm | Self::Aes128Ctr => 16,
        }
    }

    pub(crate) fn iv_length(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 => 0,
            Self::Aes256Gcm | Self::Aes128Gcm => 12,
            Self::Aes256Ctr | Self::Aes128Ctr => 16,
        }
    }

    /// Whether it needs a code of its own to prove that nothing was altered.
    pub(crate) fn needs_mac(self) -> bool {
        matches!(self, Self::Aes256Ctr | Self::Aes128Ctr)
    }
}

/// A message authentication code by its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mac {
    Sha256Etm,
    Sha512Etm,
    Sha256,
    Sha512,
}

impl Mac {
    pub(crate) const ALL: [(&'static str, Self); 4] = [
        ("hmac-sha2-256-etm@openssh.com", Self::Sha256Etm),
        ("hmac-sha2-512-etm@openssh.com", Self::Sha512Etm),
        ("hmac-sha2-256", Self::Sha256),
        ("hmac-sha2-512", Self::Sha512),
    ];

    pub(crate) fn length(self) -> usize {
        match self {
            Self::Sha256Etm | Self::Sha256 => 32,
            Self::Sha512Etm | Self::Sha512 => 64,
        }
    }

    /// Of what was encrypted, so that nothing altered is decrypted.
    fn is_etm(self) -> bool {
        matches!(self, Self::Sha256Etm | Self::Sha512Etm)
    }

    fn key(self, bytes: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Self::Sha256Etm | Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512Etm | Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, bytes)
    }
}

/// What a direction's keys are made from.
pub(crate) struct Material {
    pub(crate) cipher: Cipher,
    pub(crate) mac: Option<Mac>,
    pub(crate) iv: Zeroizing<Vec<u8>>,
    pub(crate) key: Zeroizing<Vec<u8>>,
    pub(crate) mac_key: Zeroizing<Vec<u8>>,
}

/// AES in Galois/counter mode: the last eight bytes of its nonce count packets (RFC 5647, section 7.1).
struct Gcm {
    key: LessSafeKey,
    fixed: [u8; 4],
    counter: u64,
}

impl Gcm {
    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.fixed);
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// AES in counter mode, whose two directions are the same operation, with a code.
struct Ctr {
    stream: StreamingEncryptingKey,
    mac: Mac,
    mac_key: hmac::Key,
    scratch: Zeroizing<Vec<u8>>,
}

impl Ctr {
    fn turn(&mut self, bytes: &mut [u8]) -> Result<(), Violation> {
        // What the library asks for beside the bytes themselves.
        self.scratch.resize(bytes.len() + 16, 0);
        let done = self.stream.update(bytes, &mut self.scratch).map_err(|_| Violation::Seal)?;
        bytes.copy_from_slice(done.written().get(..bytes.len()).ok_or(Violation::Seal)?);
        Ok(())
    }

    fn code(&self, sequence: u32, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.mac_key);
        context.update(&sequence.to_be_bytes());
        for part in parts {
            context.update(part);
        }
        context.sign()
    }
}

enum Sealing {
    Clear,
    ChaCha(chacha20_poly1305_openssh::SealingKey),
    Gcm(Gcm),
    Ctr(Box<Ctr>),
}

/// Seals packets of one direction.
pub(crate) struct Sealer {
    sealing: Sealing,
    sequence: u32,
    /// Since the keys are in use.
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
}

enum Opening {
    Clear,
    ChaCha(chacha20_poly1305_openssh::OpeningKey),
    Gcm(Gcm),
    Ctr(Box<Ctr>),
}

/// Opens packets of one direction.
pub(crate) struct Opener {
    opening: Opening,
    sequence: u32,
    /// The length of the packet that is on its way, where it had to be decrypted to be known.
    length: Option<u32>,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
}

fn gcm(material: &Material) -> Result<Gcm, Violation> {
    let broken = Violation::Exchange("a key could not be made");
    let algorithm = if material.cipher == Cipher::Aes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
    let key = UnboundKey::new(algorithm, &material.key).map_err(|_| broken.clone())?;
    let (fixed, counter) = material.iv.split_at_checked(4).ok_or(broken.clone())?;
    Ok(Gcm {
        key: LessSafeKey::new(key),
        fixed: fixed.try_into().map_err(|_| broken.clone())?,
        counter: u64::from_be_bytes(counter.try_into().map_err(|_| broken)?),
    })
}

fn ctr(material: &Material) -> Result<Ctr, Violation> {
    let broken = || Violation::Exchange("a key could not be made");
    let algorithm = if material.cipher == Cipher::Aes256Ctr { &AES_256 } else { &AES_128 };
    let key = UnboundCipherKey::new(algorithm, &material.key).map_err(|_| broken())?;
    let iv: [u8; 16] = material.iv.as_slice().try_into().map_err(|_| broken())?;
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    let stream = StreamingEncryptingKey::less_safe_ctr(key, context).map_err(|_| broken())?;
    let mac = material.mac.ok_or_else(broken)?;
    let mac_key = mac.key(&material.mac_key);
    Ok(Ctr { stream, mac, mac_key, scratch: Zeroizing::new(Vec::new()) })
}

fn chacha_key(material: &Material) -> Result<&[u8; chacha20_poly1305_openssh::KEY_LEN], Violation> {
    let key = material.key.as_slice().try_into();
    key.map_err(|_| Violation::Exchange("a key could not be made"))
}

impl Sealer {
    pub(crate) fn clear() -> Self {
        Self { sealing: Sealing::Clear, sequence: 0, bytes: 0, packets: 0 }
    }

    /// From the next packet on.
    pub(crate) fn rekey(&mut self, material: &Material, reset: bool) -> Result<(), Violation> {
        self.sealing = match material.cipher {
            Cipher::ChaCha20Poly1305 => {
                Sealing::ChaCha(chacha20_poly1305_openssh::SealingKey::new(chacha_key(material)?))
            }
            Cipher::Aes256Gcm | Cipher::Aes128Gcm => Sealing::Gcm(gcm(material)?),
            Cipher::Aes256Ctr | Cipher::Aes128Ctr => Sealing::Ctr(Box::new(ctr(material)?)),
        };
        (self.bytes, self.packets) = (0, 0);
        if reset {
            self.sequence = 0;
        }
        Ok(())
    }

    /// Appends a packet with this payload, or nothing.
    pub(crate) fn seal(&mut self, payload: &[&[u8]], out: &mut BytesMut) -> Result<(), Violation> {
        let begin = out.len();
        let sealed = self.append(payload, out);
        if sealed.is_err() {
            // What stands there may be in clear.
            out.truncate(begin);
        }
        sealed
    }

    fn append(&mut self, payload: &[&[u8]], out: &mut BytesMut) -> Result<(), Violation> {
        let length: usize = payload.iter().map(|part| part.len()).sum();
        // Whether the length itself is part of what fills whole blocks.
        let (block, counted, tag) = match &self.sealing {
            Sealing::Clear => (8, 4, 0),
            Sealing::ChaCha(_) => (8, 0, TAG),
            Sealing::Gcm(_) => (16, 0, TAG),
            Sealing::Ctr(ctr) => (16, if ctr.mac.is_etm() { 0 } else { 4 }, ctr.mac.length()),
        };
        let mut padding = block - (counted + 1 + length) % block;
        if padding < PADDING {
            padding += block;
        }
        let inner = 1 + length + padding;
        let number = u32::try_from(inner).unwrap_or(u32::MAX);
        if number > MOST {
            return Err(Violation::PacketLength(number));
        }
        let begin = out.len();
        out.reserve(4 + inner + tag);
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&[u8::try_from(padding).unwrap_or(u8::MAX)]);
        for part in payload {
            out.extend_from_slice(part);
        }
        let mut random = [0; 32];
        let random = &mut random[..padding];
        aws_lc_rs::rand::fill(random).map_err(|_| Violation::Exchange("there is no randomness"))?;
        out.extend_from_slice(random);
        let packet = &mut out[begin..];
        match &mut self.sealing {
            Sealing::Clear => {}
            Sealing::ChaCha(key) => {
                let mut code = [0; TAG];
                key.seal_in_place(self.sequence, packet, &mut code);
                out.extend_from_slice(&code);
            }
            Sealing::Gcm(gcm) => {
                let nonce = gcm.nonce();
                let (length, body) = packet.split_at_mut(4);
                let code = gcm
                    .key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*length), body)
                    .map_err(|_| Violation::Seal)?;
                out.extend_from_slice(code.as_ref());
            }
            Sealing::Ctr(ctr) if ctr.mac.is_etm() => {
                ctr.turn(&mut packet[4..])?;
                let code = ctr.code(self.sequence, &[packet]);
                out.extend_from_slice(code.as_ref());
            }
            Sealing::Ctr(ctr) => {
                let code = ctr.code(self.sequence, &[packet]);
                ctr.turn(packet)?;
                out.extend_from_slice(code.as_ref());
            }
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.bytes += u64::from(number);
        Ok(())
    }
}

impl Opener {
    pub(crate) fn clear() -> Self {
        Self { opening: Opening::Clear, sequence: 0, length: None, bytes: 0, packets: 0 }
    }

    /// From the next packet on.
    pub(crate) fn rekey(&mut self, material: &Material, reset: bool) -> Result<(), Violation> {
        self.opening = match material.cipher {
            Cipher::ChaCha20Poly1305 => {
                Opening::ChaCha(chacha20_poly1305_openssh::OpeningKey::new(chacha_key(material)?))
            }
            Cipher::Aes256Gcm | Cipher::Aes128Gcm => Opening::Gcm(gcm(material)?),
            Cipher::Aes256Ctr | Cipher::Aes128Ctr => Opening::Ctr(Box::new(ctr(material)?)),
        };
        (self.bytes, self.packets) = (0, 0);
        if reset {
            self.sequence = 0;
        }
        Ok(())
    }

    /// How many packets were opened, modulo 2^32.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The length of the packet at the front, as far as it is known yet.
    fn length(&mut self, input: &mut BytesMut) -> Result<Option<u32>, Violation> {
        if let Some(length) = self.length {
            return Ok(Some(length));
        }
        let first = |input: &BytesMut| input.first_chunk::<4>().copied();
        let (length, block) = match &mut self.opening {
            Opening::Clear => match first(input) {
                Some(bytes) => (bytes, 0),
                None => return Ok(None),
            },
            Opening::Gcm(_) => match first(input) {
                Some(bytes) => (bytes, 16),
                None => return Ok(None),
            },
            Opening::ChaCha(key) => match first(input) {
                Some(bytes) => (key.decrypt_packet_length(self.sequence, bytes), 8),
                None => return Ok(None),
            },
            Opening::Ctr(ctr) if ctr.mac.is_etm() => match first(input) {
                Some(bytes) => (bytes, 16),
                None => return Ok(None),
            },
            Opening::Ctr(ctr) => {
                let Some(block) = input.get_mut(..16) else { return Ok(None) };
                ctr.turn(block)?;
                let Some(bytes) = first(input) else { return Ok(None) };
                // With its first block the length is part of what fills whole blocks.
                let length = u32::from_be_bytes(bytes);
                if length % 16 != 12 {
                    return Err(Violation::PacketLength(length));
                }
                (bytes, 0)
            }
        };
        let length = u32::from_be_bytes(length);
        if !(5..=MOST).contains(&length) || block > 0 && length % block != 0 {
            return Err(Violation::PacketLength(length));
        }
        self.length = Some(length);
        Ok(Some(length))
    }

    /// Takes the packet at the front, and answers its payload; `None` where more of it must come.
    pub(crate) fn open(&mut self, input: &mut BytesMut) -> Result<Option<BytesMut>, Violation> {
        let Some(length) = self.length(input)? else { return Ok(None) };
        let inner = length as usize;
        let tag = match &self.opening {
            Opening::Clear => 0,
            Opening::ChaCha(_) | Opening::Gcm(_) => TAG,
            Opening::Ctr(ctr) => ctr.mac.length(),
        };
        if input.len() < 4 + inner + tag {
            return Ok(None);
        }
        let mut packet = input.split_to(4 + inner + tag);
        self.length = None;
        let (body, code) = packet.split_at_mut(4 + inner);
        match &mut self.opening {
            Opening::Clear => {}
            Opening::ChaCha(key) => {
                let code = (&*code).try_into().map_err(|_| Violation::Seal)?;
                key.open_in_place(self.sequence, body, code).map_err(|_| Violation::Seal)?;
            }
            Opening::Gcm(gcm) => {
                let nonce = gcm.nonce();
                let (head, sealed) = packet.split_at_mut(4);
                gcm.key
                    .open_in_place(nonce, Aad::from(&*head), sealed)
                    .map_err(|_| Violation::Seal)?;
            }
            Opening::Ctr(ctr) if ctr.mac.is_etm() => {
                let expected = ctr.code(self.sequence, &[body]);
                same(expected.as_ref(), code)?;
                let Some(sealed) = body.get_mut(4..) else { return Err(Violation::Seal) };
                ctr.turn(sealed)?;
            }
            Opening::Ctr(ctr) => {
                // The first block was needed for the length.
                let Some(sealed) = body.get_mut(16..) else { return Err(Violation::Seal) };
                ctr.turn(sealed)?;
                let expected = ctr.code(self.sequence, &[body]);
                same(expected.as_ref(), code)?;
            }
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.bytes += u64::from(length);
        let padding = usize::from(packet.get(4).copied().unwrap_or(0));
        // At least one byte is the message's number.
        if padding < PADDING || padding + 2 > inner {
            return Err(Violation::Padding);
        }
        packet.truncate(4 + inner - padding);
        Ok(Some(packet.split_off(5)))
    }
}

fn same(a: &[u8], b: &[u8]) -> Result<(), Violation> {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).map_err(|_| Violation::Seal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn material(cipher: Cipher, mac: Option<Mac>) -> Material {
        Material {
            cipher,
            mac: mac.filter(|_| cipher.needs_mac()),
            iv: vec![7; cipher.iv_length()].into(),
            key: (0..u8::try_from(cipher.key_length()).expect("short")).collect::<Vec<_>>().into(),
            mac_key: vec![9; mac.map_or(0, Mac::length)].into(),
        }
    }

    fn all() -> Vec<Material> {
        let ciphers = Cipher::ALL.map(|(_, cipher)| cipher);
        let each = |cipher: Cipher| Mac::ALL.map(|(_, mac)| material(cipher, Some(mac)));
        ciphers.into_iter().flat_map(each).collect()
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 1..5),
            cut in 1_usize..200,
        ) {
            for material in all() {
                let (mut sealer, mut opener) = (Sealer::clear(), Opener::clear());
                sealer.rekey(&material, true).expect("keys");
                opener.rekey(&material, true).expect("keys");
                let mut wire = BytesMut::new();
                for payload in &payloads {
                    sealer.seal(&[&payload[..1], &payload[1..]], &mut wire).expect("sealed");
                }
                let (mut input, mut found) = (BytesMut::new(), Vec::new());
                for piece in wire.chunks(cut) {
                    input.extend_from_slice(piece);
                    while let Some(payload) = opener.open(&mut input).expect("opened") {
                        found.push(payload.to_vec());
                    }
                }
                prop_assert_eq!(&found, &payloads);
            }
        }
    }

    #[test]
    fn p8_what_was_altered_is_not_opened() {
        for material in all() {
            for place in 4..60 {
                let (mut sealer, mut opener) = (Sealer::clear(), Opener::clear());
                sealer.rekey(&material, true).expect("keys");
                opener.rekey(&material, true).expect("keys");
                let mut wire = BytesMut::new();
                sealer.seal(&[&[94; 40]], &mut wire).expect("sealed");
                wire[place] ^= 1;
                // Without another length, it is all there.
                let found = opener.open(&mut wire);
                assert!(found.is_err(), "{:?} {place}: {found:?}", material.cipher);
            }
        }
    }

    #[test]
    fn p8_a_packet_has_a_length_that_packets_have() {
        for length in [0, 1, 4, MOST + 1, u32::MAX] {
            let mut input = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(Opener::clear().open(&mut input), Err(Violation::PacketLength(length)));
        }
        // Padding that leaves nothing.
        let mut input = BytesMut::from(&[0, 0, 0, 6, 5, 0, 0, 0, 0, 0][..]);
        assert_eq!(Opener::clear().open(&mut input), Err(Violation::Padding));
    }
}
