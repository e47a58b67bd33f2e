package recovery

import "hash/crc32"

// Pieces of a file arrive in any order. CRC-32C is linear, so that the checksum of the whole is the sum of what each
// piece gives when it is followed by as many zeros as stand behind it in the file: no piece is kept, none is read again.

// castagnoli is the reflected polynomial of CRC-32C.
const castagnoli = 0x82F63B78

// multiply gives the product of two polynomials modulo CRC-32C's; the highest bit is the coefficient of x^0.
func multiply(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= castagnoli
		}
	}
	return product
}

// shift gives the checksum c after n more zero bytes.
func shift(c uint32, n int64) uint32 {
	factor := uint32(1) << 31      // x^0
	square := uint32(1) << 31 >> 8 // x^8: one byte
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			factor = multiply(factor, square)
		}
		square = multiply(square, square)
	}
	return multiply(c, factor)
}

// share gives what a piece that ends `behind` bytes before the end of its file adds to the file's checksum.
func share(table *crc32.Table, piece []byte, behind int64) uint32 {
	return shift(^crc32.Update(^uint32(0), table, piece), behind)
}

// whole gives the CRC-32C of a file of this size from the sum of its pieces' shares.
func whole(sum uint32, size int64) uint32 { return ^(sum ^ shift(^uint32(0), size)) }
