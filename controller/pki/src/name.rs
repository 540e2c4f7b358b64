//! Distinguished names: user and groups as a certificate tells them.
//!
//! The certificate library keeps one value per attribute, but a user of several groups has several organizations. So a
//! certificate is made with a placeholder, its subject is exchanged here, and the result signed again.

use rcgen::{KeyPair, SigningKey};
use x509_parser::prelude::{FromDer, X509Certificate};
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Error, ASN1ErrorKind, construct_der, parse_der};

use crate::{Error, Result};

const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];

/// Version, serial, algorithm, issuer, validity, subject, public key, extensions.
const FIELDS_OF_A_V3_CERTIFICATE: usize = 8;
const SUBJECT_FIELD: usize = 5;

/// Whom a certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// User.
    pub common_name: String,
    /// Groups.
    pub organizations: Vec<String>,
}

impl Subject {
    /// A user of these groups.
    pub fn new<G: Into<String>>(user: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Subject {
        Subject { common_name: user.into(), organizations: groups.into_iter().map(Into::into).collect() }
    }

    fn to_der(&self) -> Vec<u8> {
        let organizations = self.organizations.iter().map(|name| (&ORGANIZATION, name));
        let attributes = organizations.chain([(&COMMON_NAME, &self.common_name)]);
        construct_der(|writer| {
            writer.write_sequence(|writer| {
                for (kind, value) in attributes {
                    writer.next().write_set(|writer| {
                        writer.next().write_sequence(|writer| {
                            writer.next().write_oid(&ObjectIdentifier::from_slice(kind));
                            writer.next().write_utf8_string(value);
                        })
                    });
                }
            })
        })
    }
}

/// Reads user and groups from a certificate (DER). Says nothing about who signed it.
pub fn subject_of(cert_der: &[u8]) -> Result<Subject> {
    let malformed = |reason: String| Error::Malformed { reason };
    let (_, certificate) = X509Certificate::from_der(cert_der).map_err(|error| malformed(error.to_string()))?;
    let name = certificate.subject();
    let mut common_names = name.iter_common_name();
    let common_name = match (common_names.next(), common_names.next()) {
        (Some(only), None) => only.as_str().map_err(|error| malformed(error.to_string()))?.to_owned(),
        (None, _) => return Err(malformed("it names no user (common name)".to_owned())),
        (Some(_), Some(_)) => {
            return Err(malformed("it names several users (common names)".to_owned()));
        }
    };
    let organizations = name
        .iter_organization()
        .map(|value| value.as_str().map(str::to_owned).map_err(|error| malformed(error.to_string())))
        .collect::<Result<_>>()?;
    Ok(Subject { common_name, organizations })
}

/// The same certificate (DER) for another subject, signed with the issuer's key.
pub(crate) fn with_subject(cert_der: &[u8], subject: &Subject, issuer: &KeyPair) -> Result<Vec<u8>> {
    let (mut fields, algorithm) =
        take_apart(cert_der).map_err(|error| Error::Malformed { reason: error.to_string() })?;
    fields[SUBJECT_FIELD] = subject.to_der();
    let signed_part = construct_der(|writer| {
        writer.write_sequence(|writer| fields.iter().for_each(|field| writer.next().write_der(field)))
    });
    let signature =
        issuer.sign(&signed_part).map_err(|source| Error::Certificate { action: "sign a certificate", source })?;
    Ok(construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&signed_part);
            writer.next().write_der(&algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        })
    }))
}

/// The signed part's fields, and the signature algorithm.
fn take_apart(cert_der: &[u8]) -> Result<(Vec<Vec<u8>>, Vec<u8>), ASN1Error> {
    parse_der(cert_der, |reader| {
        reader.read_sequence(|reader| {
            let fields = reader.next().read_sequence(|reader| {
                (0..FIELDS_OF_A_V3_CERTIFICATE).map(|_| reader.next().read_der()).collect::<Result<Vec<_>, _>>()
            })?;
            let algorithm = reader.next().read_der()?;
            let (signature, _) = reader.next().read_bitvec_bytes()?;
            match signature.is_empty() {
                false => Ok((fields, algorithm)),
                true => Err(ASN1Error::new(ASN1ErrorKind::Invalid)),
            }
        })
    })
}
