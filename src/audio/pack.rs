//! Writes msgpack into a slice: the few kinds of values that a batch has beside
//! its samples, each in its shortest form, as the
//! [specification](https://github.com/msgpack/msgpack/blob/master/spec.md) lays
//! them out.

/// See the module. The slice must have room for all that is put in.
#[derive(Debug)]
pub(super) struct Packer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Packer<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.at
    }

    /// The head of a map of up to 15 keys.
    pub(super) fn map(&mut self, keys: u8) {
        debug_assert!(keys <= 15);
        self.put(&[0x80 | keys]);
    }

    /// A key as it stands on the wire, its head included.
    #[inline]
    pub(super) fn key<const N: usize>(&mut self, key: &[u8; N]) -> &mut Self {
        self.put(key);
        self
    }

    #[inline]
    pub(super) fn uint(&mut self, number: u64) {
        match number {
            0..=0x7f => self.put(&[number as u8]),
            0x80..=0xff => self.put(&[0xcc, number as u8]),
            0x100..=0xffff => self.number(0xcd, (number as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.number(0xce, (number as u32).to_be_bytes()),
            _ => self.number(0xcf, number.to_be_bytes()),
        }
    }

    #[inline]
    pub(super) fn int(&mut self, number: i64) {
        match number {
            0.. => self.uint(number as u64),
            -0x20..0 => self.put(&[number as u8]),
            -0x80..-0x20 => self.put(&[0xd0, number as u8]),
            -0x8000..-0x80 => self.number(0xd1, (number as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => self.number(0xd2, (number as i32).to_be_bytes()),
            _ => self.number(0xd3, number.to_be_bytes()),
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        match text.len() {
            len @ 0..=31 => self.put(&[0xa0 | len as u8]),
            len @ 32..=0xff => self.put(&[0xd9, len as u8]),
            len @ 0x100..=0xffff => self.number(0xda, (len as u16).to_be_bytes()),
            len => self.number(0xdb, (len as u32).to_be_bytes()),
        }
        self.out[self.at..self.at + text.len()].copy_from_slice(text.as_bytes());
        self.at += text.len();
    }

    /// A list of pairs of small numbers.
    pub(super) fn pairs(&mut self, pairs: &[(u8, u8)]) {
        match pairs.len() {
            len @ 0..=15 => self.put(&[0x90 | len as u8]),
            len => self.number(0xdc, (len as u16).to_be_bytes()),
        }
        for (one, other) in pairs {
            self.put(&[0x92]);
            self.uint(u64::from(*one));
            self.uint(u64::from(*other));
        }
    }

    /// The head of so many bytes, which follow.
    pub(super) fn bytes_of(&mut self, len: usize) {
        match len {
            0..=0xff => self.put(&[0xc4, len as u8]),
            0x100..=0xffff => self.number(0xc5, (len as u16).to_be_bytes()),
            _ => self.number(0xc6, (len as u32).to_be_bytes()),
        }
    }

    #[inline]
    fn number<const N: usize>(&mut self, marker: u8, number: [u8; N]) {
        self.put(&[marker]);
        self.put(&number);
    }

    #[inline]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.out[self.at..self.at + N].copy_from_slice(bytes);
        self.at += N;
    }
}
