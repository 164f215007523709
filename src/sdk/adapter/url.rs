//! URLs that may become an argument: a narrow reading of RFC 3986, so that no
//! program takes another host out of one than was checked here.

use crate::limits::PARAM_MAX_BYTES;

/// Checks a URL against the schemes and hosts allowed. The error says what is
/// allowed and never repeats the URL, which may hold a key.
pub(super) fn check(url: &str, schemes: &[String], hosts: &[String]) -> Result<(), String> {
    if url.len() > PARAM_MAX_BYTES {
        return Err(format!("must be at most {PARAM_MAX_BYTES} bytes"));
    }
    // Programs read everything else in ways of their own: a space begins an
    // option, a backslash is a slash, a quote ends what it never began.
    let odd = |b: u8| !b.is_ascii_graphic() || b"\"'<>\\^`{|}".contains(&b);
    if url.bytes().any(odd) {
        return Err("must be a URL of ASCII characters, others percent-encoded".into());
    }
    let allowed = || format!("must begin with one of {}", listed(schemes, "://"));
    let (scheme, rest) = url.split_once("://").ok_or_else(allowed)?;
    if !schemes.iter().any(|allowed| allowed == scheme) {
        return Err(allowed());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("must not hold a user name or a password before the host".into());
    }
    let Some((host, port)) = split_port(authority) else {
        return Err("must name its host as a name or an address, and a port as a number".into());
    };
    if !port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("must have a port from 1 to 65535".into());
    }
    let host = host.to_ascii_lowercase();
    if !hosts.iter().any(|pattern| matches(&host, &pattern.to_ascii_lowercase())) {
        return Err(format!("must be on one of the hosts {}", listed(hosts, "")));
    }
    Ok(())
}

/// A host and, behind a colon, a port. The host is a name, an IPv4 address, or
/// an IPv6 address in brackets; nothing percent-encoded.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = if authority.starts_with('[') {
        let (host, rest) = authority.split_at(authority.find(']')? + 1);
        host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().ok()?;
        (host, rest)
    } else {
        let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if host.is_empty() || host.starts_with(['-', '.']) || !host.bytes().all(letters) {
            return None;
        }
        (host, rest)
    };
    match rest {
        "" => Some((host, None)),
        port => Some((host, Some(port.strip_prefix(':')?))),
    }
}

/// `*` is every host, `*.example.org` all hosts under that name.
fn matches(host: &str, pattern: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| !rest.is_empty()),
        None => host == pattern,
    }
}

/// Whether an entry of a `hosts` list can match anything.
pub(super) fn is_host_pattern(pattern: &str) -> bool {
    let name = match pattern.strip_prefix('*') {
        Some("") => return true,
        Some(suffix) => suffix.strip_prefix('.'),
        None => Some(pattern),
    };
    name.is_some_and(|name| split_port(name).is_some_and(|(_, port)| port.is_none()))
}

/// A list as an error shows it.
pub(super) fn listed(values: &[String], after: &str) -> String {
    values.iter().map(|value| format!("{value}{after}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str) -> Result<(), String> {
        let hosts = ["radio.example.org", "*.example.com", "[::1]", "10.0.0.1"].map(String::from);
        check(url, &["http".into(), "https".into()], &hosts)
    }

    #[test]
    fn what_is_allowed_passes() {
        for good in [
            "http://radio.example.org",
            "https://radio.example.org:8443/live.mp3?key=a%20b#x",
            "http://RADIO.example.org/",
            "http://a.b.example.com/x",
            "http://[::1]:80/x",
            "http://10.0.0.1:1/x:y@z",
        ] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "-y",
            "--help",
            "/etc/passwd",
            "file:///etc/passwd",
            "concat:http://radio.example.org/a|/etc/passwd",
            "HTTP://radio.example.org",
            "http:radio.example.org",
            "http:///etc/passwd",
            "http://other.example.org/",
            "http://example.com/",
            "http://.example.com/",
            "http://xexample.com/",
            "http://radio.example.org.evil.net/",
            "http://radio.example.org@evil.net/",
            "http://evil.net@radio.example.org/",
            "http://evil.net#@radio.example.org/",
            "http://evil.net?@radio.example.org/",
            "http://evil.net\\@radio.example.org/",
            "http://evil.net%2f@radio.example.org/",
            "http://radio.example%2eorg/",
            "http://radio.example.org:99999/",
            "http://radio.example.org:80x/",
            "http://radio.example.org:/",
            "http://radio.example.org:80:80/",
            "http://[::1/",
            "http://[evil.net]/",
            "http://radio.example.org/a b",
            "http://radio.example.org/\n-y",
            "http://radio.example.org/\0",
            "http://radio.example.org/ü",
            " http://radio.example.org/",
            "subfile,,start,0,end,9,,:http://radio.example.org",
        ] {
            let error = checked(bad).expect_err(bad);
            assert!(error.starts_with("must"), "{error}");
        }
        let long = format!("http://radio.example.org/{}", "a".repeat(PARAM_MAX_BYTES));
        assert!(checked(&long).unwrap_err().contains("at most"));
    }

    #[test]
    fn patterns_of_hosts() {
        for good in ["*", "*.example.org", "localhost", "127.0.0.1", "[::1]"] {
            assert!(is_host_pattern(good), "{good}");
        }
        for bad in ["", "*example.org", "a.*", "http://a", "a:80", "a/b", "a b"] {
            assert!(!is_host_pattern(bad), "{bad}");
        }
    }
}
