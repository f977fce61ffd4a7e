//! JSON text, written piece by piece: what goes out is composed of parts that are known to be valid.

/// Appends `text` as a JSON string, quotes included (RFC 8259 section 7).
pub fn write_string(buffer: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    buffer.push(b'"');
    let mut written = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0C => b'f',
            0..=0x1F => b'u',
            _ => continue,
        };
        buffer.extend_from_slice(&text.as_bytes()[written..index]);
        buffer.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            buffer.extend_from_slice(b"00");
            buffer.extend_from_slice(&digits);
        }
        written = index + 1;
    }
    buffer.extend_from_slice(&text.as_bytes()[written..]);
    buffer.push(b'"');
}

/// `text` as a JSON string, quotes included.
pub fn quoted(text: &str) -> String {
    let mut buffer = Vec::with_capacity(text.len() + 2);
    write_string(&mut buffer, text);
    String::from_utf8(buffer).expect("what is escaped stays UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_is_read_back() {
        for text in ["", "plain", "\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}", "ä€🦀\u{2028}"] {
            let mut buffer = Vec::new();
            write_string(&mut buffer, text);
            assert_eq!(serde_json::from_slice::<String>(&buffer).unwrap(), text);
            assert_eq!(quoted(text).as_bytes(), buffer);
        }
    }
}
