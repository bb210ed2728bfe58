use super::*;

const MAX: usize = 100;

/// Reads a body cut at some places.
fn read(
    web: bool,
    takes_compressed: bool,
    pieces: &[&[u8]],
) -> Result<(bool, Vec<u8>), FrameError> {
    let mut reader = FrameReader::new(web, takes_compressed, MAX);
    let mut message = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let before = rest.len();
            message.extend_from_slice(reader.step(&mut rest)?);
            assert!(rest.len() < before, "a step takes something");
        }
    }
    Ok((reader.finish()?, message))
}

/// The same rule over a whole body.
fn read_whole(
    web: bool,
    takes_compressed: bool,
    mut body: &[u8],
) -> Result<(bool, Vec<u8>), FrameError> {
    let mut found = None;
    while !body.is_empty() {
        let Some((head, rest)) = body.split_at_checked(5) else {
            return Err(FrameError::ShortHead);
        };
        let bytes = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let trailers = web && head[0] & 0xfe == 0x80;
        if head[0] > 1 && !trailers {
            return Err(FrameError::Flags(head[0]));
        }
        if found.is_some() && !trailers {
            return Err(FrameError::SecondMessage);
        }
        if head[0] & 1 == 1 && !takes_compressed {
            return Err(FrameError::NoEncoding);
        }
        let bytes_max = if trailers { TRAILERS_BYTES_MAX } else { MAX };
        if bytes > bytes_max {
            return Err(FrameError::TooLarge { bytes, bytes_max });
        }
        let Some((content, rest)) = rest.split_at_checked(bytes) else {
            return Err(FrameError::Short { promised: bytes, got: rest.len() });
        };
        if trailers {
            return if rest.is_empty() {
                found.ok_or(FrameError::NoMessage)
            } else {
                Err(FrameError::AfterEnd)
            };
        }
        found = Some((head[0] == 1 && bytes > 0, content.to_vec()));
        body = rest;
    }
    found.ok_or(FrameError::NoMessage)
}

#[test]
fn a_body_is_one_message() {
    for (body, want) in [
        (&b"\0\0\0\0\x03abc"[..], Ok((false, b"abc".to_vec()))),
        (b"\x01\0\0\0\x03abc", Ok((true, b"abc".to_vec()))),
        (b"\0\0\0\0\0", Ok((false, Vec::new()))),
        (b"\x01\0\0\0\0", Ok((false, Vec::new()))),
        (b"", Err(FrameError::NoMessage)),
        (b"\0\0\0", Err(FrameError::ShortHead)),
        (b"\0\0\0\0\x03ab", Err(FrameError::Short { promised: 3, got: 2 })),
        (b"\0\0\0\0\x01a\0\0\0\0\x01b", Err(FrameError::SecondMessage)),
        (b"\0\0\0\0\x01a\0", Err(FrameError::ShortHead)),
        (b"\0\0\0\0\x65", Err(FrameError::TooLarge { bytes: 101, bytes_max: 100 })),
        (b"\0\xff\xff\xff\xff", Err(FrameError::TooLarge { bytes: 0xffff_ffff, bytes_max: 100 })),
        (b"{\"series\":[]}", Err(FrameError::Flags(b'{'))),
        (b"\x02\0\0\0\0", Err(FrameError::Flags(2))),
        (b"\x80\0\0\0\0", Err(FrameError::Flags(0x80))),
    ] {
        assert_eq!(read(false, true, &[body]), want, "{}", body.escape_ascii());
    }
    assert_eq!(read(false, false, &[b"\x01\0\0\0\x01a"]), Err(FrameError::NoEncoding));
}

#[test]
fn trailers_of_a_web_client_end_its_body() {
    for (body, want) in [
        (&b"\0\0\0\0\x01a\x80\0\0\0\x05a: b\n"[..], Ok((false, b"a".to_vec()))),
        (b"\0\0\0\0\x01a\x80\0\0\0\0", Ok((false, b"a".to_vec()))),
        (b"\x80\0\0\0\0", Err(FrameError::NoMessage)),
        (b"\0\0\0\0\x01a\x80\0\0\0\x05a", Err(FrameError::Short { promised: 5, got: 1 })),
        (b"\0\0\0\0\x01a\x80\0\0\0\0x", Err(FrameError::AfterEnd)),
        (
            b"\0\0\0\0\x01a\x80\0\x01\0\0",
            Err(FrameError::TooLarge { bytes: 65536, bytes_max: TRAILERS_BYTES_MAX }),
        ),
    ] {
        assert_eq!(read(true, true, &[body]), want, "{}", body.escape_ascii());
    }
}

#[test]
fn a_written_frame_is_read_back() {
    let head = message_head(true, 3).unwrap();
    assert_eq!(read(false, true, &[&head, b"a", b"", b"bc"]), Ok((true, b"abc".to_vec())));
    assert!(message_head(false, u64::from(u32::MAX)).is_some());
    assert_eq!(message_head(false, 1 << 32), None);
    assert_eq!(trailers("grpc-status: 0\r\n")[..], *b"\x80\0\0\0\x10grpc-status: 0\r\n");
}

/// However the bytes are cut, the outcome is that of the whole body, and the reader asks for nothing.
#[test]
fn any_body_cut_anywhere_is_read_as_a_whole_one() {
    bolero::check!().with_type::<(u8, Vec<u8>, Vec<u8>)>().for_each(|(how, seed, cuts)| {
        let (web, takes_compressed) = (how & 1 != 0, how & 2 != 0);
        // Mostly small lengths and known flags, so that all of the rules are reached.
        let mut body = seed.clone();
        if how & 4 != 0 {
            for (i, byte) in body.iter_mut().enumerate() {
                if i % 8 < 4 {
                    *byte = if i % 8 == 0 { *byte & 0x81 } else { 0 };
                }
            }
        }
        let mut pieces = Vec::new();
        let mut rest = &body[..];
        for cut in cuts {
            let (piece, later) = rest.split_at(usize::from(*cut).min(rest.len()));
            pieces.push(piece);
            rest = later;
        }
        pieces.push(rest);
        assert_eq!(
            read(web, takes_compressed, &pieces),
            read_whole(web, takes_compressed, &body),
            "{}",
            body.escape_ascii()
        );
    });
}
