//! base64 around the frames of gRPC-Web's text form, for browsers that cannot read bytes as they come.
//!
//! A body is one text or several, each with its padding, one after another: clients encode what they send in pieces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::rpc::Failure;

use crate::http::codec::invalid;

/// Characters of a group, which stand for [`GROUP_BYTES`].
const GROUP_CHARS: usize = 4;
const GROUP_BYTES: usize = 3;

/// Groups decoded at a time; only bounds the buffer on the stack.
const STEP_GROUPS: usize = 512;

/// Undoes base64 as it comes.
#[derive(Debug, Default)]
pub(in crate::http) struct TextReader {
    /// Characters of a group that is not complete.
    group: [u8; GROUP_CHARS],
    group_len: usize,
}

impl TextReader {
    /// Decodes what is complete, in pieces of a few hundred bytes.
    pub(in crate::http) fn read<E: From<Failure>>(
        &mut self,
        mut text: &[u8],
        mut decoded: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = [0; STEP_GROUPS * GROUP_BYTES];
        while !text.is_empty() {
            if self.group_len > 0 || text.len() < GROUP_CHARS {
                let (now, later) = text.split_at(text.len().min(GROUP_CHARS - self.group_len));
                self.group[self.group_len..][..now.len()].copy_from_slice(now);
                self.group_len += now.len();
                text = later;
                if self.group_len == GROUP_CHARS {
                    self.group_len = 0;
                    decoded(decode(&self.group, &mut buffer)?)?;
                }
                continue;
            }
            let chars = text.len().min(STEP_GROUPS * GROUP_CHARS) / GROUP_CHARS * GROUP_CHARS;
            // Padding ends a text; another may begin after its group.
            let end = match text[..chars].iter().position(|byte| *byte == b'=') {
                Some(padding) => (padding / GROUP_CHARS + 1) * GROUP_CHARS,
                None => chars,
            };
            let (now, later) = text.split_at(end);
            text = later;
            decoded(decode(now, &mut buffer)?)?;
        }
        Ok(())
    }

    /// The body has ended.
    pub(in crate::http) fn finish(&self) -> Result<(), Failure> {
        if self.group_len == 0 { Ok(()) } else { Err(not_base64()) }
    }
}

fn decode<'a>(text: &[u8], into: &'a mut [u8]) -> Result<&'a [u8], Failure> {
    let bytes = STANDARD.decode_slice(text, into).map_err(|_| not_base64())?;
    Ok(&into[..bytes])
}

fn not_base64() -> Failure {
    invalid("protocol error: the body is not base64".to_owned())
}

/// Writes base64 as bytes come; one text with padding at its end.
#[derive(Debug, Default)]
pub(in crate::http) struct TextWriter {
    /// Bytes of a group that is not complete.
    group: [u8; GROUP_BYTES],
    group_len: usize,
}

impl TextWriter {
    /// The text of all whole groups so far.
    pub(in crate::http) fn write(&mut self, mut bytes: &[u8]) -> Bytes {
        let mut text = String::with_capacity(bytes.len().div_ceil(GROUP_BYTES) * GROUP_CHARS + 8);
        if self.group_len > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(GROUP_BYTES - self.group_len));
            self.group[self.group_len..][..now.len()].copy_from_slice(now);
            self.group_len += now.len();
            bytes = later;
            if self.group_len == GROUP_BYTES {
                STANDARD.encode_string(self.group, &mut text);
                self.group_len = 0;
            }
        }
        let (whole, rest) = bytes.split_at(bytes.len() / GROUP_BYTES * GROUP_BYTES);
        STANDARD.encode_string(whole, &mut text);
        if !rest.is_empty() {
            self.group[..rest.len()].copy_from_slice(rest);
            self.group_len = rest.len();
        }
        text.into()
    }

    /// The last group, padded; empty when there is none.
    pub(in crate::http) fn finish(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.group_len);
        STANDARD.encode(&self.group[..bytes]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        let mut reader = TextReader::default();
        let mut all = Vec::new();
        for piece in pieces {
            reader.read::<Failure>(piece, |bytes| {
                all.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        reader.finish()?;
        Ok(all)
    }

    #[test]
    fn texts_follow_each_other() {
        assert_eq!(read(&[b"YQ==YmM=ZGVm"]), Ok(b"abcdef".to_vec()));
        assert_eq!(read(&[b"Y", b"Q=", b"=Ym", b"M="]), Ok(b"abc".to_vec()));
        assert_eq!(read(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_base64_is_said_to_be_none() {
        for wrong in ["Y", "YQ", "YQ=", "Y===", "====", "Y\nQ=", "YQ==Y", "\0\0\0\0", "Y=Q="] {
            let failure = read(&[wrong.as_bytes()]).unwrap_err();
            assert_eq!(failure.message, "protocol error: the body is not base64", "{wrong:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_as_they_were_written_however_they_are_cut() {
        bolero::check!().with_type::<(Vec<Vec<u8>>, u8)>().for_each(|(pieces, cut)| {
            let mut writer = TextWriter::default();
            let mut text = Vec::new();
            for piece in pieces {
                text.extend_from_slice(&writer.write(piece));
            }
            text.extend_from_slice(&writer.finish());
            let bytes = pieces.concat();
            assert_eq!(text, STANDARD.encode(&bytes).into_bytes());
            let pieces: Vec<&[u8]> = text.chunks(usize::from(*cut).max(1)).collect();
            assert_eq!(read(&pieces), Ok(bytes));
        });
    }

    #[test]
    fn any_text_is_decoded_or_refused() {
        bolero::check!().with_type::<(Vec<u8>, u8)>().for_each(|(text, cut)| {
            let pieces: Vec<&[u8]> = text.chunks(usize::from(*cut).max(1)).collect();
            assert_eq!(read(&pieces).ok(), read(&[text]).ok());
        });
    }
}
