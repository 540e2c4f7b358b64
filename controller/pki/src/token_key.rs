//! The key that signs tokens: ECDSA over P-256, which JSON Web Tokens call ES256.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};

use crate::authority::generate;
use crate::store::Directory;
use crate::{Error, Result};

/// Signs tokens, and knows its own signatures again.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl TokenKey {
    /// Loads the key kept in a directory as `NAME.key`, or makes one there. Who removes the file makes every token void.
    pub fn load_or_create(dir: &Path, name: &str) -> Result<TokenKey> {
        let directory = Directory::open(dir)?;
        if let Some(pem) = directory.read(&directory.key_path(name))? {
            let pair = KeyPair::from_pem(&pem)
                .map_err(|source| Error::Certificate { action: "read the key that signs tokens", source })?;
            return Self::of(&pair);
        }
        let pair = generate()?;
        directory.write_key(name, &pair.serialize_pem())?;
        Self::of(&pair)
    }

    /// A key that is kept nowhere: its tokens are void when the process ends.
    pub fn generate() -> Result<TokenKey> {
        Self::of(&generate()?)
    }

    fn of(pair: &KeyPair) -> Result<TokenKey> {
        let malformed =
            |why: &dyn fmt::Display| Error::Malformed { reason: format!("the key that signs tokens: {why}") };
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der(), &SystemRandom::new())
                .map_err(|error| malformed(&error))?;
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, pair.public_key().as_ref()));
        Ok(TokenKey { pair, id })
    }

    /// The public key's name: its digest.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs; the signature is `r` and `s`, 32 bytes each.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|_| Error::Malformed { reason: "no randomness to sign with".to_owned() })?;
        Ok(signature.as_ref().to_vec())
    }

    /// Whether this key signed that message.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(message, signature).is_ok()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_key_knows_its_signatures_again_and_no_other_key_does() {
        let dir = tempfile::tempdir().unwrap();
        let signature = TokenKey::load_or_create(dir.path(), "tokens").unwrap().sign(b"message").unwrap();
        let again = TokenKey::load_or_create(dir.path(), "tokens").unwrap();
        assert!(again.verify(b"message", &signature));
        assert!(!again.verify(b"massage", &signature));
        assert!(!again.verify(b"message", &signature[1..]));
        assert!(!TokenKey::generate().unwrap().verify(b"message", &signature));
    }
}
