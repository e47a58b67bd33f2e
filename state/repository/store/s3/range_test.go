package s3_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// TestRangeThatIsIgnored never takes the beginning of an object for what was asked for: a proxy that leaves ranges out would
// make every object look damaged.
func TestRangeThatIsIgnored(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"1"`)
		_, _ = io.WriteString(w, "0123456789")
	}))
	defer proxy.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	st := open(t, "s3://bucket?region=eu&endpoint="+proxy.URL, remote.Patience{First: time.Millisecond})
	for _, n := range []int64{2, -1} {
		r, err := st.Get(t.Context(), "a", 4, n)
		if err == nil {
			b, _ := io.ReadAll(r)
			r.Close()
			t.Errorf("%d bytes from 4 on are %q", n, b)
		} else if !strings.Contains(err.Error(), "Content-Range") {
			t.Error(err)
		}
	}
}
