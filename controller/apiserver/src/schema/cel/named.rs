//! The `format` library: Kubernetes' own checks of names and values, by name, as `format.dns1123Label().validate(self.name)`.

use std::any::Any;

use ::cel::common::traits::Comparer;
use ::cel::common::types::{CelList, CelOptional, CelString, STRING_TYPE, Type};
use ::cel::common::value::{CowVal, StaticVal, Val};
use ::cel::{DeclarationError, Env};

use super::super::metadata::{LABEL_VALUE, dns_label, dns_subdomain, is_label_value, qualified_name};
use super::super::structural::Format;
use super::library::{Outcome, text};
use super::meter;
use super::types::{this, value};

static FORMAT: Type = Type::new_unspecified_type("kubernetes.NamedFormat");

const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, \
     and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
     '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// What is wrong with a text; none when it has the format.
type Check = fn(&str) -> Option<String>;

type Make = for<'b, 'v> fn(Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v>;

/// Name, the function of that name (which is told its place in the list and nothing else), and the check.
const FORMATS: [(&str, Make, Check); 13] = [
    ("dns1123Label", make::<0>, dns_label),
    ("dns1123Subdomain", make::<1>, dns_subdomain),
    ("dns1035Label", make::<2>, dns_1035),
    ("qualifiedName", make::<3>, qualified_name),
    ("dns1123LabelPrefix", make::<4>, |text| dns_label(&prefix(text))),
    ("dns1123SubdomainPrefix", make::<5>, |text| dns_subdomain(&prefix(text))),
    ("dns1035LabelPrefix", make::<6>, |text| dns_1035(&prefix(text))),
    ("labelValue", make::<7>, |text| (!is_label_value(text)).then(|| LABEL_VALUE.to_owned())),
    ("uri", make::<8>, |text| unlike(Format::Uri, text, "invalid URI for request")),
    ("uuid", make::<9>, |text| unlike(Format::Uuid, text, "does not match the UUID format")),
    ("byte", make::<10>, |text| unlike(Format::Byte, text, "invalid base64")),
    ("date", make::<11>, |text| unlike(Format::Date, text, "invalid date")),
    ("datetime", make::<12>, |text| unlike(Format::DateTime, text, "invalid datetime")),
];

#[derive(Debug, Clone, PartialEq)]
struct Named(usize);

value!(Named, FORMAT, |_| None);

fn make<'b, 'v, const PLACE: usize>(_: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(Named(PLACE)))
}

/// The names, as rules call them.
pub(super) fn is_format(name: &str) -> bool {
    name == "named" || FORMATS.iter().any(|(format, ..)| *format == name)
}

/// Declares the functions.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    for (name, make, _) in FORMATS {
        env.add_overload(&format!("format.{name}"), &format!("format_{name}"), vec![], make)?;
    }
    env.add_overload("format.named", "format_named", vec![STRING_TYPE], |a| {
        let wanted = text(&a, 0)?;
        let found = FORMATS.iter().position(|(name, ..)| *name == wanted);
        Ok(CowVal::owned(found.map_or_else(CelOptional::none, |index| CelOptional::of(Box::new(Named(index))))))
    })?;
    env.add_member_overload("validate", "format_validate", FORMAT.to_owned(), vec![STRING_TYPE], |a| {
        let (index, subject) = (this::<Named>(&a, 0)?.0, text(&a, 1)?);
        meter::charge(subject.len() as u64 / 4 + 4)?;
        let wrong = FORMATS.get(index).and_then(|(.., check)| check(subject));
        let list = |why: String| {
            let items: Vec<Box<dyn Val>> = vec![Box::new(CelString::from(why))];
            CelOptional::of(Box::new(CelList::from(items)))
        };
        Ok(CowVal::owned(wrong.map_or_else(CelOptional::none, list)))
    })
}

fn unlike(format: Format, text: &str, why: &str) -> Option<String> {
    (!format.accepts(text)).then(|| why.to_owned())
}

fn dns_1035(text: &str) -> Option<String> {
    match dns_label(text) {
        None if text.starts_with(|c: char| c.is_ascii_lowercase()) => None,
        Some(why) if text.len() > 63 => Some(why),
        _ => Some(DNS_1035.to_owned()),
    }
}

/// What a generated name begins with may end with a dash, for more follows.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            format!("{}a", &rest[..rest.len() - rest.chars().next_back().map_or(0, char::len_utf8)])
        }
        _ => text.to_owned(),
    }
}
