//! Responses as bytes.

use super::operation::{reason_of, reason_word};
use super::{
    DecodeError, EncodeError, Fields, encode_frame, length_word, put_bytes, put_duration,
    put_number,
};
use crate::protocol::version::PROTOCOL_NEGOTIATED;
use crate::protocol::{Attached, ErrorCode, Layouts, Response};
use shm_layout::Layout;
use std::time::Duration;

// Requests count from 1 and responses from 129, so that neither passes for the other.
const ATTACHED: u8 = 129;
const FOUND: u8 = 130;
const ABSENT: u8 = 131;
const UNKNOWN: u8 = 132;
const MANY: u8 = 133;
const STORED: u8 = 134;
const DELETED: u8 = 135;
const JSON: u8 = 136;
const ERROR: u8 = 137;
const CHANGED: u8 = 138;
const NOT_CHANGED: u8 = 139;
const RESERVED: u8 = 140;
const DONE: u8 = 142;
const LOADING: u8 = 141;

impl<'a> Response<'a> {
    /// Appends this response to `frame`, as one whole frame.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when it is larger than a frame can be; `frame` is as it was.
    pub fn encode(&self, frame: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Response::Attached(attached) => {
                encode_frame(frame, ATTACHED, |out| put_attached(out, attached))
            }
            Response::Found { value, flags, version, ttl } => encode_frame(frame, FOUND, |out| {
                put_bytes(out, value)?;
                out.extend_from_slice(&flags.to_le_bytes());
                out.extend_from_slice(&version.to_le_bytes());
                put_duration(out, *ttl);
                Ok(())
            }),
            Response::Absent { ttl } => encode_frame(frame, ABSENT, |out| {
                put_duration(out, *ttl);
                Ok(())
            }),
            Response::Unknown => encode_frame(frame, UNKNOWN, |_| Ok(())),
            // An answer inside is a frame itself: its length, its kind, its fields.
            Response::Many(answers) => encode_frame(frame, MANY, |out| {
                out.extend_from_slice(&length_word(answers.len())?);
                answers.iter().try_for_each(|answer| answer.encode(out))
            }),
            Response::Stored { version, degraded, life } => encode_frame(frame, STORED, |out| {
                out.extend_from_slice(&version.to_le_bytes());
                out.push(u8::from(*degraded));
                put_last(out, *life);
                Ok(())
            }),
            Response::Deleted { existed, degraded } => encode_frame(frame, DELETED, |out| {
                out.extend_from_slice(&[u8::from(*existed), u8::from(*degraded)]);
                Ok(())
            }),
            Response::Changed { version, number, degraded, life } => {
                encode_frame(frame, CHANGED, |out| {
                    out.extend_from_slice(&version.to_le_bytes());
                    put_number(out, *number);
                    out.push(u8::from(*degraded));
                    put_last(out, *life);
                    Ok(())
                })
            }
            Response::NotChanged { reason } => encode_frame(frame, NOT_CHANGED, |out| {
                out.push(reason_word(*reason));
                Ok(())
            }),
            Response::Reserved { token } => encode_frame(frame, RESERVED, |out| {
                out.extend_from_slice(&token.to_le_bytes());
                Ok(())
            }),
            Response::Loading { token } => encode_frame(frame, LOADING, |out| {
                out.extend_from_slice(&token.to_le_bytes());
                Ok(())
            }),
            Response::Done => encode_frame(frame, DONE, |_| Ok(())),
            Response::Json(document) => {
                encode_frame(frame, JSON, |out| put_bytes(out, document.as_bytes()))
            }
            Response::Error { code, message } => encode_frame(frame, ERROR, |out| {
                out.push(*code as u8);
                put_bytes(out, message.as_bytes())
            }),
        }
    }

    /// Reads the payload of one frame.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] unless `payload` is exactly one response.
    pub fn decode(payload: &'a [u8]) -> Result<Response<'a>, DecodeError> {
        let mut fields = Fields::new(payload);
        let response = match fields.u8("kind")? {
            ATTACHED => Response::Attached(take_attached(&mut fields)?),
            MANY => Response::Many(fields.list("answers", decode_answer)?),
            DELETED => Response::Deleted {
                existed: fields.bool("existed mark")?,
                degraded: fields.bool("degraded mark")?,
            },
            CHANGED => Response::Changed {
                version: fields.u64("version")?,
                number: fields.option("number", Fields::i64)?,
                degraded: fields.bool("degraded mark")?,
                life: take_last(&mut fields)?,
            },
            NOT_CHANGED => Response::NotChanged { reason: reason_of(fields.u8("reason")?)? },
            RESERVED => Response::Reserved { token: fields.u64("token")? },
            LOADING => Response::Loading { token: fields.u64("token")? },
            DONE => Response::Done,
            JSON => Response::Json(fields.text("document")?),
            _ => return decode_answer(payload),
        };
        fields.end(response)
    }
}

/// Reads what answers one key. Apart from the others so that a `Many` inside a `Many` is refused
/// instead of followed to whatever depth a peer likes.
fn decode_answer(payload: &[u8]) -> Result<Response<'_>, DecodeError> {
    let mut fields = Fields::new(payload);
    let answer = match fields.u8("kind")? {
        FOUND => Response::Found {
            value: fields.bytes("value")?,
            flags: fields.u32("flags")?,
            version: fields.u64("version")?,
            ttl: fields.duration("TTL")?,
        },
        ABSENT => Response::Absent { ttl: fields.duration("TTL")? },
        UNKNOWN => Response::Unknown,
        STORED => Response::Stored {
            version: fields.u64("version")?,
            degraded: fields.bool("degraded mark")?,
            life: take_last(&mut fields)?,
        },
        ERROR => Response::Error {
            code: take_error_code(&mut fields)?,
            message: fields.text("error text")?,
        },
        kind => return Err(DecodeError::UnknownKind { kind }),
    };
    fields.end(answer)
}

/// A life that ends the message, or no more bytes.
fn put_last(out: &mut Vec<u8>, life: Option<Duration>) {
    life.iter().for_each(|life| put_duration(out, *life));
}

fn take_last(fields: &mut Fields<'_>) -> Result<Option<Duration>, DecodeError> {
    if fields.is_at_end() { Ok(None) } else { fields.duration("life").map(Some) }
}

fn put_attached(out: &mut Vec<u8>, attached: &Attached<'_>) -> Result<(), EncodeError> {
    out.extend_from_slice(&attached.protocol.to_le_bytes());
    out.extend_from_slice(&attached.table_id.to_le_bytes());
    out.extend_from_slice(&attached.table_bytes.to_le_bytes());
    out.extend_from_slice(&attached.instance.to_le_bytes());
    out.extend_from_slice(&attached.clock_ns.to_le_bytes());
    out.extend_from_slice(&attached.mailbox_bytes.to_le_bytes());
    put_bytes(out, attached.policy)?;
    if let Some(Layouts { table, mailbox }) = attached.layouts {
        for layout in [table, mailbox] {
            out.extend_from_slice(&layout.version.to_le_bytes());
            out.extend_from_slice(&layout.fingerprint.to_le_bytes());
        }
        out.extend(attached.policy_epoch.iter().flat_map(|epoch| epoch.to_le_bytes()));
    }
    Ok(())
}

fn take_attached<'a>(fields: &mut Fields<'a>) -> Result<Attached<'a>, DecodeError> {
    let mut attached = Attached {
        protocol: fields.u32("protocol version")?,
        table_id: fields.u64("table id")?,
        table_bytes: fields.u64("table size")?,
        instance: fields.u64("instance")?,
        clock_ns: fields.u64("clock")?,
        mailbox_bytes: fields.u64("mailbox size")?,
        policy: fields.bytes("policy")?,
        layouts: None,
        policy_epoch: None,
    };
    if attached.protocol >= PROTOCOL_NEGOTIATED {
        let mut layout =
            |field| Ok(Layout { version: fields.u32(field)?, fingerprint: fields.u64(field)? });
        attached.layouts =
            Some(Layouts { table: layout("table layout")?, mailbox: layout("mailbox layout")? });
        if !fields.is_at_end() {
            attached.policy_epoch = Some(fields.u64("policy epoch")?);
        }
        fields.skip_rest();
    }
    Ok(attached)
}

fn take_error_code(fields: &mut Fields<'_>) -> Result<ErrorCode, DecodeError> {
    Ok(match fields.u8("error code")? {
        1 => ErrorCode::Malformed,
        2 => ErrorCode::TooLarge,
        3 => ErrorCode::Refused,
        4 => ErrorCode::TierFailed,
        5 => ErrorCode::UnknownOutcome,
        6 => ErrorCode::Busy,
        7 => ErrorCode::Internal,
        8 => ErrorCode::WrongProtocol,
        9 => ErrorCode::LoadFailed,
        10 => ErrorCode::Full,
        11 => ErrorCode::Denied,
        _ => ErrorCode::Other,
    })
}
