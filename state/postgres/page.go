package postgres

import (
	"encoding/binary"

	"github.com/pgkeep/pgkeep/state/wal"
)

// lanes is how many sums PostgreSQL keeps side by side over a page (N_SUMS in checksum_impl.h), so that a processor's
// vector unit can compute them; fnvPrime is the multiplier of its FNV-1a variant.
const (
	lanes    = 32
	fnvPrime = 16777619
	rowBytes = 4 * lanes
)

// laneSeed gives the start value of each sum (checksumBaseOffsets).
func laneSeed() [lanes]uint32 {
	return [lanes]uint32{
		0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
		0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
		0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
		0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
	}
}

// Where a page header keeps what is read here (PageHeaderData).
const (
	pageChecksumAt = 8
	pageUpperAt    = 14
	pageHeader     = 24
)

// PageChecksum computes what pd_checksum must be for block number block of its relation, counted over all the
// relation's 1 GiB files. The page's own pd_checksum counts as zero. Pages are of little-endian servers and a multiple
// of 128 bytes long, which every BLCKSZ is; a rest is not looked at.
func PageChecksum(page []byte, block uint32) uint16 {
	sums := laneSeed()
	for first := 0; first < lanes; first += 8 {
		eightLanes(page, first, (*[8]uint32)(sums[first:]))
	}
	var all uint32
	for _, s := range sums {
		s = mix(s, 0)
		all ^= mix(s, 0)
	}
	all ^= block
	return uint16(all%65535 + 1)
}

func mix(sum, value uint32) uint32 {
	t := sum ^ value
	return t*fnvPrime ^ t>>17
}

// eightLanes runs eight neighbouring sums over the page: as many as fit the registers, which is why the page is walked
// four times and not once (it stays in the first cache).
func eightLanes(page []byte, first int, sums *[8]uint32) {
	s0, s1, s2, s3, s4, s5, s6, s7 := sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7]
	for at := 4 * first; at+32 <= len(page); at += rowBytes {
		w := page[at : at+32 : at+32]
		v2 := binary.LittleEndian.Uint32(w[8:])
		if at == 0 {
			v2 &= 0xFFFF0000 // pd_checksum, the lower half of the third word
		}
		s0 = mix(s0, binary.LittleEndian.Uint32(w[0:]))
		s1 = mix(s1, binary.LittleEndian.Uint32(w[4:]))
		s2 = mix(s2, v2)
		s3 = mix(s3, binary.LittleEndian.Uint32(w[12:]))
		s4 = mix(s4, binary.LittleEndian.Uint32(w[16:]))
		s5 = mix(s5, binary.LittleEndian.Uint32(w[20:]))
		s6 = mix(s6, binary.LittleEndian.Uint32(w[24:]))
		s7 = mix(s7, binary.LittleEndian.Uint32(w[28:]))
	}
	*sums = [8]uint32{s0, s1, s2, s3, s4, s5, s6, s7}
}

// PageVerdict is what CheckPage found.
type PageVerdict int

// The verdicts.
const (
	PageGood  PageVerdict = iota // the checksum fits
	PageUnset                    // a page that was never used has no checksum
	PageNewer                    // changed after the backup began: replay writes it again, so it may be torn
	PageBad                      // the checksum does not fit
)

// CheckPage judges a page of a base backup that began at start, on a cluster with page checksums, as the server itself
// does. PageBad from a live server is a suspicion: the page may have been read while it was written, and must be read
// again.
func CheckPage(page []byte, block uint32, start wal.LSN) PageVerdict {
	if len(page) < pageHeader {
		return PageBad
	}
	if binary.LittleEndian.Uint16(page[pageUpperAt:]) == 0 {
		return PageUnset
	}
	lsn := uint64(binary.LittleEndian.Uint32(page))<<32 | uint64(binary.LittleEndian.Uint32(page[4:]))
	if wal.LSN(lsn) >= start {
		return PageNewer
	}
	if PageChecksum(page, block) != binary.LittleEndian.Uint16(page[pageChecksumAt:]) {
		return PageBad
	}
	return PageGood
}
