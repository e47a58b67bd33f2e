package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The credentials of the S3 server. The secret is a canary: no output of pgkeep may hold it.
const (
	S3AccessKey = "pgkeep-test-access"
	S3Secret    = "canary-s3-secret-7f3a9b"
)

// S3Server is a running versitygw.
type S3Server struct {
	Endpoint string // http://127.0.0.1:port
	Dir      string // the buckets are folders of it
	Kill     func() // ends the server; it ends with the test anyway
}

// S3 starts versitygw over a folder of the test, and sets AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the test.
func S3(tb testing.TB) *S3Server {
	tb.Helper()
	return startS3(tb, nil, nil)
}

func startS3(tb testing.TB, options, posix []string) *S3Server {
	tb.Helper()
	path, dir := program(tb, "versitygw"), tb.TempDir()
	address, kill := listen(tb, func(port int) *exec.Cmd {
		args := append([]string{"--port", fmt.Sprintf("127.0.0.1:%d", port), "--quiet"}, options...)
		args = append(append(args, "posix"), posix...)
		cmd := exec.Command(path, append(args, dir)...)
		cmd.Env = environment("ROOT_ACCESS_KEY="+S3AccessKey, "ROOT_SECRET_KEY="+S3Secret)
		return cmd
	})
	tb.Setenv("AWS_ACCESS_KEY_ID", S3AccessKey)
	tb.Setenv("AWS_SECRET_ACCESS_KEY", S3Secret)
	return &S3Server{Endpoint: "http://" + address, Dir: dir, Kill: kill}
}

// Bucket makes a bucket and gives the URL of a repository at its top.
func (s *S3Server) Bucket(tb testing.TB, name string) string {
	tb.Helper()
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o755); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("s3://%s?endpoint=%s&region=us-east-1&path_style=true", name, s.Endpoint)
}

// WriteCredentials writes an AWS credentials file for the owner of its directory, and takes the environment's away.
func (s *S3Server) WriteCredentials(tb testing.TB, file string) {
	tb.Helper()
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", S3AccessKey, S3Secret)
	info, err := os.Stat(filepath.Dir(file))
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(file, int(st.Uid), int(st.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Setenv("AWS_ACCESS_KEY_ID", "")
	tb.Setenv("AWS_SECRET_ACCESS_KEY", "")
}
