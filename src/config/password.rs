//! The password of a tier: from a file, from a credential of systemd's, or from the environment; or
//! in the URL, if nobody else can read the configuration.

use super::read::Look;
use super::section::{Section, Wrong};
use super::value;
use crate::tiers::{Secret, parse_url};
use l1d_wire::words;
use nix::libc::O_NONBLOCK;
use nix::unistd::{Uid, getegid, getgroups};
use std::env;
use std::fs::{Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// Far more than any password has.
const BYTES_MAX: u64 = 4096;
/// What to do about a file that others can read.
const PRIVATE: &str = "make that \"chmod 0640\", with a group of the daemon's";
/// What to do about a file that has no password.
const ALONE: &str = "write the password into it, and nothing else";
/// Where systemd puts the credentials of a unit.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The keys that tell where the password is.
const KEYS: [&str; 3] = ["password_file", "password_credential", "password_env"];

/// The password beside `url`, if there is one. Reports one that others can read, and that cannot be
/// had.
pub(super) fn read(section: &mut Section<'_>, url: Option<&str>, look: Look<'_>) -> Option<Secret> {
    let mut texts = Vec::new();
    for key in KEYS {
        let text = section.read(key, |value| source(key, value));
        if let Some(text) = text.ok().flatten() {
            texts.push((key, text));
        }
    }
    let holds_one = url.and_then(|url| parse_url(url).ok());
    let holds_one = holds_one.is_some_and(|server| server.redis_settings().password().is_some());
    if let (true, Some(file)) = (holds_one, look.file())
        && let Some(exposed) = exposed(file)
    {
        let message = format!(
            "url holds a password, and {exposed}; {PRIVATE}, or keep the password elsewhere: write \
             for example password_file = \"/etc/l1d/redis-password\""
        );
        section.problem(section.place(&["url"]), &message);
    }
    if texts.len() + usize::from(holds_one) > 1 {
        let message = format!(
            "more than one password; keep it either in url or by one of {}",
            KEYS.join(", ")
        );
        section.problem(section.place(&KEYS), &message);
        return None;
    }
    let (key, text) = texts.pop()?;
    if !look.reads_passwords() {
        return None;
    }
    let found = match key {
        "password_file" => of_file(Path::new(&text)),
        "password_credential" => match env::var_os(CREDENTIALS) {
            Some(directory) => of_file(&PathBuf::from(directory).join(&text)),
            // Only the unit's own process has them.
            None if look.is_check() => return None,
            None => Err(format!(
                "{text:?}: systemd has passed no credentials (${CREDENTIALS} is not set); write \
                 LoadCredential={text}:PATH into the unit, or use password_file"
            )),
        },
        _ => match env::var(&text) {
            Ok(password) => usable(password).map_err(|what| format!("{text}: {what}; set it")),
            Err(_) if look.is_check() => return None,
            Err(_) => Err(format!("{text}: the daemon's environment has no such text; set it")),
        },
    };
    found.map_err(|what| section.problem(section.place(&[key]), &format!("{key} {what}"))).ok()
}

/// The path, the name of the credential, or that of the variable.
fn source(key: &str, value: &DeValue<'_>) -> Result<String, Wrong> {
    let example = match key {
        "password_file" => "/etc/l1d/redis-password",
        "password_credential" => "redis-password",
        _ => "L1D_REDIS_PASSWORD",
    };
    // The message does not repeat the value: somebody may have written the password itself.
    let wrong = |what: &str| Wrong::new(what, value::quoted(example));
    let text = value.as_str().filter(|text| !text.is_empty() && !text.contains('\0'));
    let text = text.ok_or_else(|| wrong("is not a text"))?;
    let is_valid = match key {
        "password_file" => Path::new(text).is_absolute(),
        "password_credential" => !text.contains('/') && ![".", ".."].contains(&text),
        _ => !text.contains('='),
    };
    let what = match key {
        "password_file" => "is not an absolute path",
        "password_credential" => "is not the name of a credential",
        _ => "is not the name of a variable",
    };
    if is_valid { Ok(text.to_owned()) } else { Err(wrong(what)) }
}

fn of_file(path: &Path) -> Result<Secret, String> {
    content(path).map_err(|what| format!("{}: {what}", path.display()))
}

fn content(path: &Path) -> Result<Secret, String> {
    let cannot = |error| {
        format!("cannot be read: {}; give the daemon's user a file to read", words::of(&error))
    };
    let mut bytes = Vec::new();
    // Without waiting for the other end of a pipe.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("is no regular file; name one with the password in it".to_owned());
    }
    if let Some(exposed) = exposed(&metadata) {
        return Err(format!("{exposed}; {PRIVATE}"));
    }
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("has more than {BYTES_MAX} bytes; {ALONE}"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| format!("is not UTF-8; {ALONE}"))?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    usable(text).map_err(|what| format!("{what}; {ALONE}"))
}

fn usable(password: String) -> Result<Secret, &'static str> {
    if password.is_empty() { Err("is empty") } else { Ok(Secret::new(password)) }
}

/// The others who can read or write a file, in words; `None`: nobody but root, its owner, and a
/// group of this process.
fn exposed(file: &Metadata) -> Option<String> {
    let (mode, gid) = (file.mode() & 0o777, file.gid());
    if mode & 0o006 != 0 {
        return Some(format!("every user can read or write the file (mode {mode:04o})"));
    }
    let is_own = || {
        gid == 0
            || Uid::effective().is_root()
            || getegid().as_raw() == gid
            || getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == gid))
    };
    if mode & 0o060 != 0 && !is_own() {
        return Some(format!(
            "group {gid}, which is none of the daemon's, can read or write the file (mode \
             {mode:04o})"
        ));
    }
    None
}
