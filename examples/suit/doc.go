// Package suit holds descriptions of SUIT manifests, one for each template of the SUIT texts, to start
// from: 'teep suit create -f download.yaml -o download.suit'. Its tests build each of them, run it on
// a device, and compare with the trail of commands in testdata.
package suit
