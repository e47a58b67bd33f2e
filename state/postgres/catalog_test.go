package postgres_test

import (
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres"
)

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
