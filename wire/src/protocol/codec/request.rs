//! Requests as bytes.

use super::operation::{put_operate, take_operate};
use super::{
    DecodeError, EncodeError, Fields, encode_frame, length_word, put_bytes, put_duration,
    with_length,
};
use crate::policy::WriteMode;
use crate::protocol::{Identity, Request, Set};
use crate::snapshot::KeyOrder;

// Requests count from 1 and responses from 129, so that neither passes for the other.
const ATTACH: u8 = 1;
const GET: u8 = 2;
const GET_MANY: u8 = 3;
const SET: u8 = 4;
const DELETE: u8 = 5;
const FLUSH: u8 = 6;
const STATS: u8 = 7;
const EXPLAIN: u8 = 8;
const CHECK: u8 = 9;
const POLICY: u8 = 10;
const SET_MANY: u8 = 11;
const RESIZE: u8 = 12;
const ADVISE: u8 = 13;
const CLIENTS: u8 = 14;
const OPERATE: u8 = 15;
const RESERVE: u8 = 16;
const FILL: u8 = 17;
const ABANDON: u8 = 18;
const RELOAD_POLICY: u8 = 19;
const KEYS: u8 = 20;
const ACCESS: u8 = 21;

/// Supplementary groups that a process can have (NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;

impl<'a> Request<'a> {
    /// Appends this request to `frame`, as one whole frame.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when it is larger than a frame can be; `frame` is as it was.
    pub fn encode(&self, frame: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Request::Attach { protocol, mailbox } => encode_frame(frame, ATTACH, |out| {
                out.extend_from_slice(&protocol.to_le_bytes());
                out.push(u8::from(*mailbox));
                Ok(())
            }),
            Request::Get { key } => encode_frame(frame, GET, |out| put_bytes(out, key)),
            Request::GetMany { keys } => encode_frame(frame, GET_MANY, |out| {
                out.extend_from_slice(&length_word(keys.len())?);
                keys.iter().try_for_each(|key| put_bytes(out, key))
            }),
            Request::Set(set) => encode_frame(frame, SET, |out| put_set(out, set)),
            Request::SetMany { sets } => encode_frame(frame, SET_MANY, |out| {
                out.extend_from_slice(&length_word(sets.len())?);
                sets.iter().try_for_each(|set| with_length(out, |out| put_set(out, set)))
            }),
            Request::Delete { key } => encode_frame(frame, DELETE, |out| put_bytes(out, key)),
            Request::Operate(operate) => {
                encode_frame(frame, OPERATE, |out| put_operate(out, operate))
            }
            Request::Flush { prefix } => encode_frame(frame, FLUSH, |out| put_bytes(out, prefix)),
            Request::Reserve { key, lease, waits_for } => encode_frame(frame, RESERVE, |out| {
                put_bytes(out, key)?;
                put_duration(out, *lease);
                out.extend_from_slice(&waits_for.to_le_bytes());
                Ok(())
            }),
            Request::Fill { token, set } => encode_frame(frame, FILL, |out| {
                out.extend_from_slice(&token.to_le_bytes());
                put_set(out, set)
            }),
            Request::Abandon { key, token, error } => encode_frame(frame, ABANDON, |out| {
                put_bytes(out, key)?;
                out.extend_from_slice(&token.to_le_bytes());
                put_bytes(out, error.as_bytes())
            }),
            Request::Stats => encode_frame(frame, STATS, |_| Ok(())),
            Request::Clients => encode_frame(frame, CLIENTS, |_| Ok(())),
            Request::Explain { key } => encode_frame(frame, EXPLAIN, |out| put_bytes(out, key)),
            Request::Check => encode_frame(frame, CHECK, |_| Ok(())),
            Request::Policy => encode_frame(frame, POLICY, |_| Ok(())),
            Request::ReloadPolicy => encode_frame(frame, RELOAD_POLICY, |_| Ok(())),
            Request::Advise => encode_frame(frame, ADVISE, |_| Ok(())),
            Request::Access { of } => encode_frame(frame, ACCESS, |out| {
                out.push(u8::from(of.is_some()));
                of.iter().try_for_each(|identity| put_identity(out, identity))
            }),
            Request::Keys { prefix, top, by } => encode_frame(frame, KEYS, |out| {
                put_bytes(out, prefix)?;
                out.extend_from_slice(&u32::from(*top).to_le_bytes());
                out.push(match by {
                    KeyOrder::Hits => 0,
                    KeyOrder::Size => 1,
                });
                Ok(())
            }),
            Request::Resize { table_bytes, entry_bytes } => encode_frame(frame, RESIZE, |out| {
                out.push(u8::from(table_bytes.is_some()));
                out.extend(table_bytes.iter().flat_map(|bytes| bytes.to_le_bytes()));
                out.push(u8::from(entry_bytes.is_some()));
                out.extend(entry_bytes.iter().flat_map(|bytes| bytes.to_le_bytes()));
                Ok(())
            }),
        }
    }

    /// Reads the payload of one frame.
    ///
    /// Sizes of keys and values are not judged here: the daemon answers those, by table and policy.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] unless `payload` is exactly one request.
    pub fn decode(payload: &'a [u8]) -> Result<Request<'a>, DecodeError> {
        let mut fields = Fields::new(payload);
        let request = match fields.u8("kind")? {
            ATTACH => Request::Attach {
                protocol: fields.u32("protocol version")?,
                mailbox: fields.bool("mailbox mark")?,
            },
            GET => Request::Get { key: fields.bytes("key")? },
            GET_MANY => Request::GetMany { keys: fields.list("keys", Ok)? },
            SET => Request::Set(take_set(&mut fields)?),
            SET_MANY => Request::SetMany {
                sets: fields.list("sets", |bytes| {
                    let mut fields = Fields::new(bytes);
                    let set = take_set(&mut fields)?;
                    fields.end(set)
                })?,
            },
            DELETE => Request::Delete { key: fields.bytes("key")? },
            OPERATE => Request::Operate(take_operate(&mut fields)?),
            FLUSH => Request::Flush { prefix: fields.bytes("prefix")? },
            RESERVE => Request::Reserve {
                key: fields.bytes("key")?,
                lease: fields.duration("lease")?,
                waits_for: fields.u64("token waited for")?,
            },
            FILL => Request::Fill { token: fields.u64("token")?, set: take_set(&mut fields)? },
            ABANDON => Request::Abandon {
                key: fields.bytes("key")?,
                token: fields.u64("token")?,
                error: fields.text("error")?,
            },
            STATS => Request::Stats,
            CLIENTS => Request::Clients,
            EXPLAIN => Request::Explain { key: fields.bytes("key")? },
            CHECK => Request::Check,
            POLICY => Request::Policy,
            RELOAD_POLICY => Request::ReloadPolicy,
            ADVISE => Request::Advise,
            ACCESS => Request::Access {
                of: fields.option("identity mark", |fields, _| take_identity(fields))?,
            },
            KEYS => Request::Keys {
                prefix: fields.bytes("prefix")?,
                top: u16::try_from(fields.u32("number of keys")?).unwrap_or(u16::MAX),
                by: match fields.u8("order")? {
                    0 => KeyOrder::Hits,
                    1 => KeyOrder::Size,
                    _ => return Err(DecodeError::Meaningless { field: "order" }),
                },
            },
            RESIZE => Request::Resize {
                table_bytes: match fields.bool("size mark")? {
                    true => Some(fields.u64("size")?),
                    false => None,
                },
                entry_bytes: match fields.bool("entry size mark")? {
                    true => Some(fields.u32("entry size")?),
                    false => None,
                },
            },
            kind => return Err(DecodeError::UnknownKind { kind }),
        };
        fields.end(request)
    }
}

fn put_identity(out: &mut Vec<u8>, identity: &Identity) -> Result<(), EncodeError> {
    let Identity { uid, gid, groups } = identity;
    out.extend_from_slice(&uid.to_le_bytes());
    out.extend_from_slice(&gid.to_le_bytes());
    out.extend_from_slice(&length_word(groups.len())?);
    out.extend(groups.iter().flat_map(|group| group.to_le_bytes()));
    Ok(())
}

fn take_identity(fields: &mut Fields<'_>) -> Result<Identity, DecodeError> {
    let (uid, gid) = (fields.u32("user")?, fields.u32("group")?);
    let count = usize::try_from(fields.u32("groups")?).unwrap_or(usize::MAX);
    if count > GROUPS_MAX {
        let (field, count_max) = ("groups", GROUPS_MAX);
        return Err(DecodeError::TooMany { field, count, count_max });
    }
    // A false count cannot make us reserve more than the peer really sent.
    let mut groups = Vec::with_capacity(count.min(fields.rest.len() / size_of::<u32>()));
    for _ in 0..count {
        groups.push(fields.u32("groups")?);
    }
    Ok(Identity { uid, gid, groups })
}

fn put_set(out: &mut Vec<u8>, set: &Set<'_>) -> Result<(), EncodeError> {
    put_bytes(out, set.key)?;
    put_bytes(out, set.value)?;
    out.push(u8::from(set.ttl.is_some()));
    if let Some(ttl) = set.ttl {
        put_duration(out, ttl);
    }
    out.extend_from_slice(&set.flags.to_le_bytes());
    out.push(match set.write {
        None => 0,
        Some(WriteMode::Through) => 1,
        Some(WriteMode::L1Only) => 2,
    });
    out.push(u8::from(set.reply));
    Ok(())
}

fn take_set<'a>(fields: &mut Fields<'a>) -> Result<Set<'a>, DecodeError> {
    Ok(Set {
        key: fields.bytes("key")?,
        value: fields.bytes("value")?,
        ttl: match fields.bool("TTL")? {
            true => Some(fields.duration("TTL")?),
            false => None,
        },
        flags: fields.u32("flags")?,
        write: match fields.u8("write mode")? {
            0 => None,
            1 => Some(WriteMode::Through),
            2 => Some(WriteMode::L1Only),
            _ => {
                return Err(DecodeError::Meaningless { field: "write mode" });
            }
        },
        reply: fields.bool("reply mark")?,
    })
}
