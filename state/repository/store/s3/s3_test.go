package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/s3"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

func open(t testing.TB, url string, p remote.Patience) *remote.Store {
	t.Helper()
	at, err := location.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s3.Open(at, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func TestConformance(t *testing.T) {
	server := servers.S3(t)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, server.Bucket(t, fmt.Sprintf("bucket-%d", n.Add(1))), remote.Patience{})
	})
}
