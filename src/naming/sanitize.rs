//! Arbitrary bytes turned into characters that every statsd server keeps.

/// Whether a component of a path may have this character.
pub fn is_clean(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Any bytes as one clean component, never empty.
pub fn sanitize(raw: &[u8]) -> String {
    if raw.is_empty() {
        return "_".into();
    }
    String::from_utf8_lossy(raw).chars().map(|c| if is_clean(c) { c } else { '_' }).collect()
}

/// As [`sanitize`], but with `-` for a dot, as the XenMonitor script did.
pub fn sanitize_legacy(raw: &[u8]) -> String {
    let dashed: Vec<u8> = raw.iter().map(|&byte| if byte == b'.' { b'-' } else { byte }).collect();
    sanitize(&dashed)
}

/// The name on a server that ignores case and takes all but ASCII letters, digits and dots for `_`.
pub fn fold_case(name: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || c == '.';
    name.chars().map(|c| if is_kept(c) { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// Each run of `_` as one, and none at either end.
pub fn collapse(name: &str) -> String {
    name.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}

/// FNV-1a: the same on every host and in every release.
pub fn fnv1a(raw: &[u8]) -> u64 {
    raw.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// FNV-1a, folded to 32 bits.
pub fn hash(raw: &[u8]) -> u32 {
    let hash = fnv1a(raw);
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitized_names_are_clean_and_never_empty() {
        for (raw, clean) in [
            (&b"web01"[..], "web01"),
            (b"", "_"),
            (b"build server", "build_server"),
            (b"a.b/c:d|e@f#g,h=i;j[k]l", "a_b_c_d_e_f_g_h_i_j_k_l"),
            (b"x\n\x1b[31mevil:1|g", "x___31mevil_1_g"),
            ("z\u{fc}rich".as_bytes(), "z_rich"),
            (b"\xff\xfe", "__"),
            (b"Keeps-Case_0", "Keeps-Case_0"),
        ] {
            assert_eq!(sanitize(raw), clean, "{raw:?}");
        }
    }
}
