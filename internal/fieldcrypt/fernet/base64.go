package fernet

import "encoding/binary"

// base64Bits holds, for each position in a group of four, the bits that a
// base64url character (RFC 4648 §5) adds to the group's 24 bits, and noBase64
// for every other character.
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

// decodeBase64 decodes base64url into dst and returns the number of bytes. It
// accepts only the canonical form: padded, without line breaks, and with all
// leftover bits zero, so that the same bytes always have the same text. dst
// needs three bytes for every four characters.
//
// It exists for speed (BenchmarkBase64): next to the MAC, the standard
// library's decoder was the most expensive part of opening a short token. Tests
// compare the two on every pair of bytes in a group, and by fuzzing.
func decodeBase64(dst []byte, text string) (n int, ok bool) {
	if len(text) == 0 || len(text)%4 != 0 {
		return 0, false
	}
	t := &base64Bits
	var all uint32
	for len(text) > 8 { // PutUint64 writes two bytes too many
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
	leftover := last << (8 + 8*size) // of the 24 bits; noBase64 is shifted out
	return n + size, (all|last)&noBase64 == 0 && leftover == 0
}
