//! Kubernetes' own CEL types: addresses, networks and quantities.

use std::any::Any;
use std::cmp::Ordering;
use std::net::IpAddr;

use ::cel::common::traits::Comparer;
use ::cel::common::types::{CelBool, CelDouble, CelInt, CelString, STRING_TYPE, Type};
use ::cel::common::value::{CowVal, StaticVal, Val};
use ::cel::{DeclarationError, Env, ExecutionError};

use super::super::structural::parse_cidr;
use super::library::{Outcome, text};

static IP: Type = Type::new_unspecified_type("net.IP");
static CIDR: Type = Type::new_unspecified_type("net.CIDR");
static QUANTITY: Type = Type::new_unspecified_type("kubernetes.Quantity");

#[derive(Debug, Clone, PartialEq)]
struct Ip(IpAddr);

#[derive(Debug, Clone, PartialEq)]
struct Cidr(IpAddr, u8);

/// A quantity in thousandths, which holds every size that occurs here exactly.
#[derive(Debug, Clone, PartialEq)]
struct Quantity(i128);

macro_rules! value {
    ($name:ident, $kind:ident, $comparer:expr) => {
        impl Val for $name {
            fn get_type(&self) -> &Type {
                &$kind
            }
            fn cel_type() -> &'static Type {
                &$kind
            }
            fn as_comparer(&self) -> Option<&dyn Comparer> {
                let comparer: fn(&Self) -> Option<&dyn Comparer> = $comparer;
                comparer(self)
            }
            fn equals(&self, other: &dyn Val) -> bool {
                other.downcast_ref::<$name>() == Some(self)
            }
            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
                Box::new(self.clone())
            }
            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }
        impl StaticVal for $name {}
    };
}
pub(super) use value;

value!(Ip, IP, |_| None);
value!(Cidr, CIDR, |_| None);
value!(Quantity, QUANTITY, |quantity| Some(quantity));

impl Comparer for Quantity {
    fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
        other
            .downcast_ref::<Self>()
            .map(|other| self.0.cmp(&other.0))
            .ok_or_else(|| failed("quantity", "no such overload"))
    }
}

pub(super) fn failed(function: &str, why: &str) -> ExecutionError {
    ExecutionError::function_error(function, why)
}

pub(super) fn flag<'b, 'v>(value: bool) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(value)))
}

pub(super) fn this<'a, T: StaticVal>(arguments: &'a [CowVal<'_, '_>], index: usize) -> Result<&'a T, ExecutionError> {
    arguments
        .get(index)
        .and_then(|value| value.as_any())
        .and_then(<dyn Any>::downcast_ref::<T>)
        .ok_or_else(|| failed("receiver", "no such overload"))
}

/// Declares the functions.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let one = || vec![STRING_TYPE];
    env.add_overload("isIP", "isIP", one(), |a| flag(text(&a, 0)?.parse::<IpAddr>().is_ok()))?;
    env.add_overload("ip", "ip", one(), |a| {
        let ip = text(&a, 0)?.parse().map_err(|_| failed("ip", "not a valid IP address"))?;
        Ok(CowVal::owned(Ip(ip)))
    })?;
    env.add_overload("isCIDR", "isCIDR", one(), |a| flag(parse_cidr(text(&a, 0)?).is_some()))?;
    env.add_overload("cidr", "cidr", one(), |a| {
        let (address, prefix) = parse_cidr(text(&a, 0)?).ok_or_else(|| failed("cidr", "not a valid CIDR"))?;
        Ok(CowVal::owned(Cidr(address, prefix)))
    })?;
    env.add_overload("isQuantity", "isQuantity", one(), |a| flag(parse_quantity(text(&a, 0)?).is_some()))?;
    env.add_overload("quantity", "quantity", one(), |a| {
        let amount = parse_quantity(text(&a, 0)?).ok_or_else(|| failed("quantity", "not a valid quantity"))?;
        Ok(CowVal::owned(Quantity(amount)))
    })?;
    declare_ip(env)?;
    declare_cidr(env)?;
    declare_quantity(env)
}

fn declare_ip(env: &mut Env) -> Result<(), DeclarationError> {
    let mut ask = |name: &str, answer| env.add_member_overload(name, name, IP.to_owned(), vec![], answer);
    ask("family", |a| Ok(CowVal::owned(CelInt::from(if this::<Ip>(&a, 0)?.0.is_ipv4() { 4 } else { 6 }))))?;
    ask("isUnspecified", |a| flag(this::<Ip>(&a, 0)?.0.is_unspecified()))?;
    ask("isLoopback", |a| flag(this::<Ip>(&a, 0)?.0.is_loopback()))?;
    ask("isLinkLocalMulticast", |a| {
        flag(match this::<Ip>(&a, 0)?.0 {
            IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
            IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
        })
    })?;
    ask("isLinkLocalUnicast", |a| {
        flag(match this::<Ip>(&a, 0)?.0 {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
        })
    })?;
    ask("isGlobalUnicast", |a| {
        let ip = this::<Ip>(&a, 0)?.0;
        let local = match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
        };
        flag(!local && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast())
    })?;
    env.add_overload("string", "ip_to_string", vec![IP.to_owned()], |a| {
        Ok(CowVal::owned(CelString::from(this::<Ip>(&a, 0)?.0.to_string())))
    })
}

fn declare_cidr(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload("ip", "cidr.ip", CIDR.to_owned(), vec![], |a| {
        Ok(CowVal::owned(Ip(this::<Cidr>(&a, 0)?.0)))
    })?;
    env.add_member_overload("prefixLength", "cidr.prefixLength", CIDR.to_owned(), vec![], |a| {
        Ok(CowVal::owned(CelInt::from(i64::from(this::<Cidr>(&a, 0)?.1))))
    })?;
    env.add_member_overload("masked", "cidr.masked", CIDR.to_owned(), vec![], |a| {
        let Cidr(address, prefix) = this::<Cidr>(&a, 0)?;
        Ok(CowVal::owned(Cidr(masked(*address, *prefix), *prefix)))
    })?;
    env.add_member_overload("containsIP", "cidr.containsIP(string)", CIDR.to_owned(), vec![STRING_TYPE], |a| {
        let ip = text(&a, 1)?.parse().map_err(|_| failed("containsIP", "not a valid IP address"))?;
        flag(contains(this::<Cidr>(&a, 0)?, ip))
    })?;
    env.add_member_overload("containsIP", "cidr.containsIP(ip)", CIDR.to_owned(), vec![IP.to_owned()], |a| {
        flag(contains(this::<Cidr>(&a, 0)?, this::<Ip>(&a, 1)?.0))
    })?;
    env.add_member_overload("containsCIDR", "cidr.containsCIDR(string)", CIDR.to_owned(), vec![STRING_TYPE], |a| {
        let (address, prefix) = parse_cidr(text(&a, 1)?).ok_or_else(|| failed("containsCIDR", "not a valid CIDR"))?;
        let outer = this::<Cidr>(&a, 0)?;
        flag(prefix >= outer.1 && contains(outer, address))
    })?;
    env.add_member_overload("containsCIDR", "cidr.containsCIDR(cidr)", CIDR.to_owned(), vec![CIDR.to_owned()], |a| {
        let (outer, inner) = (this::<Cidr>(&a, 0)?, this::<Cidr>(&a, 1)?);
        flag(inner.1 >= outer.1 && contains(outer, inner.0))
    })?;
    env.add_overload("string", "cidr_to_string", vec![CIDR.to_owned()], |a| {
        let Cidr(address, prefix) = this::<Cidr>(&a, 0)?;
        Ok(CowVal::owned(CelString::from(format!("{address}/{prefix}"))))
    })
}

fn declare_quantity(env: &mut Env) -> Result<(), DeclarationError> {
    let other = || vec![QUANTITY.to_owned()];
    let mut ask = |name: &str, arguments, answer| {
        env.add_member_overload(name, &format!("quantity.{name}"), QUANTITY.to_owned(), arguments, answer)
    };
    ask("compareTo", other(), |a| {
        let order = this::<Quantity>(&a, 0)?.0.cmp(&this::<Quantity>(&a, 1)?.0);
        Ok(CowVal::owned(CelInt::from(order as i64)))
    })?;
    ask("isGreaterThan", other(), |a| flag(this::<Quantity>(&a, 0)?.0 > this::<Quantity>(&a, 1)?.0))?;
    ask("isLessThan", other(), |a| flag(this::<Quantity>(&a, 0)?.0 < this::<Quantity>(&a, 1)?.0))?;
    ask("add", other(), |a| {
        Ok(CowVal::owned(Quantity(this::<Quantity>(&a, 0)?.0.saturating_add(this::<Quantity>(&a, 1)?.0))))
    })?;
    ask("sub", other(), |a| {
        Ok(CowVal::owned(Quantity(this::<Quantity>(&a, 0)?.0.saturating_sub(this::<Quantity>(&a, 1)?.0))))
    })?;
    ask("sign", vec![], |a| Ok(CowVal::owned(CelInt::from(this::<Quantity>(&a, 0)?.0.signum() as i64))))?;
    ask("isInteger", vec![], |a| flag(whole(this::<Quantity>(&a, 0)?.0).is_some()))?;
    ask("asInteger", vec![], |a| {
        let number =
            whole(this::<Quantity>(&a, 0)?.0).ok_or_else(|| failed("asInteger", "cannot convert value to integer"))?;
        Ok(CowVal::owned(CelInt::from(number)))
    })?;
    ask("asApproximateFloat", vec![], |a| {
        Ok(CowVal::owned(CelDouble::from(this::<Quantity>(&a, 0)?.0 as f64 / 1000.0)))
    })
}

fn whole(thousandths: i128) -> Option<i64> {
    (thousandths % 1000 == 0).then(|| i64::try_from(thousandths / 1000).ok()).flatten()
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into()),
        IpAddr::V6(ip) => {
            IpAddr::V6((ip.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into())
        }
    }
}

fn contains(network: &Cidr, address: IpAddr) -> bool {
    network.0.is_ipv4() == address.is_ipv4() && masked(network.0, network.1) == masked(address, network.1)
}

/// `1.5Gi`, `250m`, `1e3`: in thousandths.
fn parse_quantity(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let whole = whole.trim_start_matches(['+', '-']);
    let plain = |part: &str| part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !plain(whole) || !plain(fraction) {
        return None;
    }
    let scale: i128 = match suffix {
        "" => 1000,
        "m" => 1,
        "k" => 1000i128.pow(2),
        "M" => 1000i128.pow(3),
        "G" => 1000i128.pow(4),
        "T" => 1000i128.pow(5),
        "P" => 1000i128.pow(6),
        "E" => 1000i128.pow(7),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        "Ei" => 1000 << 60,
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|exponent| *exponent <= 15)?;
            1000 * 10i128.pow(exponent)
        }
    };
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let amount = whole.checked_mul(scale)?.checked_add(part.checked_mul(scale)? / 10i128.pow(fraction.len() as u32))?;
    Some(if negative { -amount } else { amount })
}

#[cfg(test)]
mod tests {
    use super::parse_quantity;

    #[test]
    fn quantities_are_read_in_thousandths() {
        for (text, thousandths) in [
            ("1", Some(1000)),
            ("1.5", Some(1500)),
            ("250m", Some(250)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("-2k", Some(-2_000_000)),
            ("1e3", Some(1_000_000)),
            ("", None),
            ("Gi", None),
            ("1Q", None),
        ] {
            assert_eq!(parse_quantity(text), thousandths, "{text}");
        }
    }
}
