package location_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/repository/store/location"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]location.Location{
		"/srv/pgkeep": {Scheme: location.File, Path: "/srv/pgkeep"},
		"s3://bucket": {Scheme: location.S3, Bucket: "bucket"},
		"s3://bucket/a/b/?region=eu&max_rate=2MiB/s": {
			Scheme: location.S3, Bucket: "bucket", Prefix: "a/b", Options: location.Options{Region: "eu", MaxRate: 2 << 20},
		},
		"sftp://me@backup:2222/srv/x?known_hosts=/etc/hosts.ssh": {
			Scheme: location.SFTP, User: "me", Host: "backup", Port: 2222, Path: "/srv/x", Options: location.Options{KnownHosts: "/etc/hosts.ssh"},
		},
		"azblob://container/x?account=me": {Scheme: location.Azure, Bucket: "container", Prefix: "x", Options: location.Options{Account: "me"}},
	} {
		want.Text = text
		got, err := location.Parse(text)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", text, err, d)
		}
	}
}

// FuzzParse never shows what stands where a password does, and gives prefixes and paths that lead nowhere else.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"s3://b/p?region=x", "sftp://u:canary@h/p", "gs://b/../x", "azblob://c?sas=canary", "s3://b/%2e%2e/x", "://", "s3://b?secret=canary&x=%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := location.Parse(s)
		var e *location.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%q: the error is %T", s, err)
		}
		if err == nil && (strings.Contains(l.Prefix, "..") && strings.Contains("/"+l.Prefix+"/", "/../") || strings.Contains(l.Path+"/", "/../")) {
			t.Errorf("%q leads out: %+v", s, l)
		}
	})
}

func TestSecretsAreRefusedAndNotShown(t *testing.T) {
	for _, s := range []string{
		"sftp://me:canary@host/srv", "s3://key:canary@bucket/x", "s3://b?secret_key=canary", "azblob://c?sig=canary", "azblob://c?account-key=canary",
		"s3://b?AWS=1&Secret=canary", "gs://b?token=canary%zz", "s3://b:canary@/x%zz",
		"s3://b?endpoint=https://key:canary@minio", "azblob://c?endpoint=https%3A%2F%2Fme.blob.core.windows.net%2F%3Fsv%3D1%26sig%3Dcanary",
	} {
		_, err := location.Parse(s)
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), "canary") {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// TestOptionsAreDocumented finds every option in docs/repositories.md.
func TestOptionsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/repositories.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range location.Schemes() {
		for _, name := range location.OptionNames(scheme) {
			if !strings.Contains(string(page), "| `"+name+"` | ") || location.DescribeOption(name) == "" {
				t.Errorf("option %s of %s is not described", name, scheme)
			}
		}
	}
}
