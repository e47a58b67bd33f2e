package observe

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestLastWriteOfADestination: what a plan says of a data directory that is to be restored over is what its server says.
func TestLastWriteOfADestination(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 13, 18) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			primary := pgtest.Start(t, pgtest.Options{Version: version})
			s := primary.Standby(t, pgtest.Options{})
			s.AwaitReplay(t, primary)
			s.Promote(t)
			s.Exec(t, "checkpoint")
			want := s.SQL(t, "select timeline_id || ' ' || extract(epoch from pg_control_last_modified)::bigint from pg_control_checkpoint(), pg_control_system()")
			id := s.SQL(t, "select system_identifier from pg_control_system()")
			s.Kill9(t)
			got, err := Destination(t.Context(), hclspec.Destination{Path: s.DataDir}, version)
			if err != nil {
				t.Fatal(err)
			}
			if is := fmt.Sprintf("%d %d", got.Timeline, got.WroteAt.Unix()); is != want || got.Timeline != 2 || got.Holds != id || got.WroteAt.Location() != time.UTC {
				t.Errorf("%s, and the server says %s: %+v", is, want, got)
			}
		})
	}
}
