package postgres_test

import (
	"encoding/binary"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres"
)

// TestCatalogRows: only what a line pointer calls a row is one, and a row that was deleted is told as old.
func TestCatalogRows(t *testing.T) {
	tuple := make([]byte, 160)
	tuple[22] = 24 // t_hoff
	copy(tuple[24:], "\x01\x02\x00\x00orders")
	for name, c := range map[string]struct {
		flags, xmax, rows byte
		old               bool
	}{"a row": {1, 0, 1, false}, "a deleted one": {1, 9, 1, true}, "a dead pointer": {3, 0, 0, false}} {
		page := make([]byte, 8192)
		page[12] = 28                                                                             // pd_lower: one item
		binary.LittleEndian.PutUint32(page[24:], 4096|uint32(c.flags)<<15|uint32(len(tuple))<<17) // ItemIdData
		copy(page[4096:], tuple)
		page[4096+4] = c.xmax
		n := byte(0)
		postgres.Catalog{OID: postgres.DatabaseOID, Major: 15}.Rows(page, func(r postgres.CatalogRow) {
			if n++; r.OID != 0x201 || r.Name != "orders" || r.Old != c.old {
				t.Errorf("%s: %+v", name, r)
			}
		})
		if n != c.rows {
			t.Errorf("%s: %d rows", name, n)
		}
	}
}

func FuzzCatalog(f *testing.F) {
	f.Add(make([]byte, 8192), uint8(15))
	page := make([]byte, 8192)
	page[12], page[24], page[25], page[26], page[27] = 28, 0x00, 0x90, 0x40, 0x01 // one item: normal, at 4096, 160 bytes
	page[4096+22] = 24                                                            // t_hoff
	copy(page[4096+24+4:], "orders")
	f.Add(page, uint8(18))
	f.Fuzz(func(t *testing.T, page []byte, major uint8) {
		_, _ = postgres.FilenodeMap(page)
		for _, oid := range []uint32{postgres.ClassOID, postgres.NamespaceOID, postgres.DatabaseOID} {
			postgres.Catalog{OID: oid, Major: int(major)}.Rows(page, func(r postgres.CatalogRow) {
				if len(r.Name) > 64 {
					t.Errorf("a name of %d bytes", len(r.Name))
				}
			})
		}
	})
}
