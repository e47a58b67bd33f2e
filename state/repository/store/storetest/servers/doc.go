// Package servers starts the real storage servers that drivers are tested with: versitygw for S3, fake-gcs-server, azurite,
// and OpenSSH's sshd. install.sh puts them on this machine when they are not there. Each server belongs to one test, listens
// on loopback only, keeps its objects in a folder of the test and ends with it.
package servers
