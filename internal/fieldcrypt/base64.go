package fieldcrypt

import "encoding/binary"

// base64Bits has what a character of base64url (RFC 4648 §5) adds to the 24 bits of its group of four, by its place there, and
// noBase64 for any other.
var base64Bits = func() (bits [4][256]uint32) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for place := range bits {
		for char := range bits[place] {
			bits[place][char] = noBase64
		}
		for value := range alphabet {
			bits[place][alphabet[value]] = uint32(value) << (18 - 6*place)
		}
	}
	return bits
}()

// noBase64 is a bit that no group has.
const noBase64 = 1 << 31

// decodeBase64 writes what a text in base64url stands for to dst, and returns its length in bytes. It takes the canonical form only,
// with padding, with no bits left over that are not zero, and without line breaks, which is what is one text for one content.
// dst must have three bytes for every four of the text.
//
// It is there for its speed (BenchmarkBase64): the standard library's was the most expensive part of opening a short token after its
// MAC. That it does the same is tested on every pair of bytes in a group, and by fuzzing.
func decodeBase64(dst []byte, text string) (n int, ok bool) {
	if len(text) == 0 || len(text)%4 != 0 {
		return 0, false
	}
	t := &base64Bits
	var all uint32
	for len(text) > 8 { // so that there is room in dst for the two bytes too many
		a := t[0][text[0]] | t[1][text[1]] | t[2][text[2]] | t[3][text[3]]
		b := t[0][text[4]] | t[1][text[5]] | t[2][text[6]] | t[3][text[7]]
		binary.BigEndian.PutUint64(dst[n:], uint64(a)<<40|uint64(b)<<16)
		all |= a | b
		n += 6
		text = text[8:]
	}
	if len(text) == 8 {
		a := t[0][text[0]] | t[1][text[1]] | t[2][text[2]] | t[3][text[3]]
		dst[n], dst[n+1], dst[n+2] = byte(a>>16), byte(a>>8), byte(a)
		all |= a
		n += 3
		text = text[4:]
	}
	last := t[0][text[0]] | t[1][text[1]]
	size := 3
	switch {
	case text[3] != '=':
		last |= t[2][text[2]] | t[3][text[3]]
	case text[2] != '=':
		last |= t[2][text[2]]
		size = 2
	default:
		size = 1
	}
	for i := range size {
		dst[n+i] = byte(last >> (16 - 8*i))
	}
	leftOver := last << (8 + 8*size) // of the 24 bits; noBase64 is shifted out
	return n + size, (all|last)&noBase64 == 0 && leftOver == 0
}
