package servers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// S3Locking starts versitygw as S3 does, with versions, object lock and users of its own.
func S3Locking(tb testing.TB) *S3Server {
	tb.Helper()
	return startS3(tb, []string{"--iam-dir", tb.TempDir()}, []string{"--versioning-dir", tb.TempDir()})
}

// Client gives a client with all rights.
func (s *S3Server) Client(tb testing.TB) *minio.Client {
	tb.Helper()
	c, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(S3AccessKey, S3Secret, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// LockBucket makes a bucket with object lock and gives the URL of a repository at its top.
func (s *S3Server) LockBucket(tb testing.TB, name string) string {
	tb.Helper()
	if err := s.Client(tb).MakeBucket(tb.Context(), name, minio.MakeBucketOptions{Region: "us-east-1", ObjectLocking: true}); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("s3://%s?endpoint=%s&region=us-east-1&path_style=true", name, s.Endpoint)
}

// User makes a user whose only rights are actions on a bucket and its objects, such as "s3:PutObject".
func (s *S3Server) User(tb testing.TB, bucket, name, secret string, actions ...string) {
	tb.Helper()
	body, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"Account"`
		Access  string   `xml:"Access"`
		Secret  string   `xml:"Secret"`
		Role    string   `xml:"Role"`
	}{Access: name, Secret: secret, Role: "user"})
	if err != nil {
		tb.Fatal(err)
	}
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodPatch, s.Endpoint+"/create-user", bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	sum := sha256.Sum256(body)
	r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	answer, err := http.DefaultClient.Do(signer.SignV4(*r, S3AccessKey, S3Secret, "", "us-east-1"))
	if err != nil {
		tb.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		tb.Fatalf("make user %s: %s", name, answer.Status)
	}
	quoted := `"` + strings.Join(actions, `", "`) + `"`
	policy := fmt.Sprintf(`{"Statement": [{"Effect": "Allow", "Principal": %q, "Action": [%s], "Resource": ["arn:aws:s3:::%s", "arn:aws:s3:::%s/*"]}]}`,
		name, quoted, bucket, bucket)
	if err := s.Client(tb).SetBucketPolicy(tb.Context(), bucket, policy); err != nil {
		tb.Fatalf("give user %s its rights: %v", name, err)
	}
}
