package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestWithoutDelete is a backup host whose credentials may put and read and nothing else, on a real S3 service, without and with object
// lock: a server is protected, backed up in full and by pages, its WAL streamed, retention applied, all of it verified, and recovered.
func TestWithoutDelete(t *testing.T) {
	for name, lock := range map[string]string{"plain": "", "locked": "\n  object_lock {\n    mode   = \"compliance\"\n    margin = \"1h\"\n  }\n"} {
		t.Run(name, func(t *testing.T) { withoutDelete(t, name, lock) })
	}
}

func withoutDelete(t *testing.T, bucket, lock string) {
	service := servers.S3Locking(t)
	var place string
	if lock == "" {
		place = service.Bucket(t, bucket)
	} else {
		place = service.LockBucket(t, bucket)
	}
	const secret = "canary-writer-secret"
	service.User(t, bucket, "writer", secret, "s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:PutObjectRetention", "s3:GetObjectRetention")
	pg := pgtest.Start(t, pgtest.Options{Version: 15, SegmentMB: 1, Settings: ledgerSettings})
	pg.Exec(t, ledgerTable)
	keys := filepath.Join(pg.Dir(t, "keys"), "aws")
	service.WriteCredentials(t, keys)
	if err := os.WriteFile(keys, []byte("[default]\naws_access_key_id = writer\naws_secret_access_key = "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	place += "&credentials_file=" + keys
	hcl := strings.NewReplacer(`path = "@DIR@/repository"`, `url = "`+place+`"`+lock, "redundancy = 2", "redundancy = 1", `push_every = "1h"`, `push_every = "1s"`).Replace(journeyHCL)
	site := newSite(t, fmt.Sprintf(hcl, pg.Conninfo()))

	says(t, site.run(t, "apply", "--auto-approve"), "can be restored", "Apply: 4 done, 0 already so, 0 failed, 0 not done.")
	var l ledger
	for n := range 3 { // parts of segments are pushed meanwhile, and nobody can take them away
		l.upTo(t, pg, 10*(n+1))
		last := lsnOf(t, &l, 10*(n+1))
		eventually(t, "the last commit in the bucket", func() bool { return receiverOf(t, site).Archived >= last })
		site.run(t, "wal", "switch", "orders")
	}
	first := regexp.MustCompile(`\d{8}T\d{6}Z-F-[0-9a-f]+`).FindString(site.run(t, "backups", "list"))
	site.run(t, "backup", "orders", "--incremental", "--wait=10m")
	refersLocked(t, service, bucket, first, lock != "")

	site.run(t, "backup", "orders", "--full", "--wait=10m")
	l.upTo(t, pg, 40)
	site.run(t, "wal", "switch", "orders")
	eventually(t, "the last commit in the bucket", func() bool { return receiverOf(t, site).Archived >= lsnOf(t, &l, 40) })
	wanted := "prune (" + first + " is locked until then"
	if lock == "" {
		wanted = "prune server.orders/prune/main"
	}
	eventually(t, "the first backup is to go", func() bool { // by the clock of the service, once that is past the newest one's end
		out, _ := site.try("plan")
		return strings.Contains(out, wanted) && strings.Contains(out, first)
	})
	if lock == "" {
		says(t, site.run(t, "apply", "--auto-approve"), "0 failed")
	} else {
		says(t, site.run(t, "plan"), "extend-lock", wanted)
		says(t, site.run(t, "apply", "--auto-approve"), "Apply: 1 done, 0 already so, 0 failed, 0 not done.")
		says(t, site.run(t, "plan"), wanted, "No changes.")
		second := regexp.MustCompile(`\d{8}T\d{6}Z-I-[0-9a-f]+`).FindString(site.run(t, "backups", "list"))
		says(t, site.run(t, "backups", "delete", second, "--yes"), "what is locked stays, until")
		says(t, site.run(t, "backups", "list"), second+" usable")
	}
	says(t, site.run(t, "verify", "--level", "full"), "no damage")
	says(t, site.run(t, "check", "--repository", "main"), "can be written")
	dir := filepath.Join(site.dir, "back")
	site.run(t, "recover", "--repository", place, "--server", "orders", "--into", dir, "--to-lsn", l.at(39).lsn, "--action", "promote", "--owner", owner(), "--bindir", pg.Bin, "--yes")
	back := pgtest.StartDir(t, 15, dir, pgtest.Options{Version: 15})
	awaitPromotion(t, back)
	holds(t, back, 39)
	back.Stop(t, "fast")
	for o := range service.Client(t).ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: lock != ""}) {
		if o.Err != nil || o.IsDeleteMarker || lock != "" && !o.IsLatest {
			t.Errorf("%s was hidden or written twice: %v", o.Key, o.Err)
		}
	}
}

func lsnOf(t *testing.T, l *ledger, n int) wal.LSN {
	t.Helper()
	at, err := wal.ParseLSN(l.at(n).lsn)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// refersLocked wants the volumes of the first backup, which the second reads, locked for as long as that, and its decision for no longer than
// when it was taken.
func refersLocked(t *testing.T, service *servers.S3Server, bucket, first string, locked bool) {
	t.Helper()
	if !locked {
		return
	}
	client := service.Client(t)
	until := func(key string) time.Time {
		info, err := client.StatObject(t.Context(), bucket, key, minio.StatObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil {
			t.Fatalf("lock of %s: %v", key, err)
		}
		return at
	}
	var decided, second time.Time
	var volumes []string
	for o := range client.ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		own := strings.Contains(o.Key, "/"+first+"/")
		switch {
		case own && strings.Contains(o.Key, "/v/"):
			volumes = append(volumes, o.Key)
		case own && strings.HasSuffix(o.Key, "COMMIT.json"):
			decided = until(o.Key)
		case !own && strings.HasSuffix(o.Key, "COMMIT.json"):
			second = until(o.Key)
		}
	}
	if len(volumes) == 0 || !second.After(decided) {
		t.Fatalf("%d volumes; %s is locked until %s, the second until %s", len(volumes), first, decided, second)
	}
	for _, key := range volumes {
		if at := until(key); at.Before(second) {
			t.Errorf("%s is locked until %s, and what reads it until %s", key, at, second)
		}
	}
}
