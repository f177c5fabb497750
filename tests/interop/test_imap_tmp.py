import imaplib, ssl, sys, pytest, subprocess
pytestmark = pytest.mark.interop
CODE = r'''
import sys; sys.path.insert(0, "/usr/lib/python3/dist-packages")
import warnings; warnings.simplefilter("ignore")
import imaplib2, threading
bad=0
for n in range(int(sys.argv[3])):
    try:
        i = imaplib2.IMAP4("localhost", int(sys.argv[1]), timeout=20)
        i.starttls(None, None, sys.argv[2], None, "tls1_2" if len(sys.argv)>4 else "ssl23", "tls_compat")
        i.logout()
    except BaseException as e:
        bad+=1; print(n, repr(e)[:150])
print("bad", bad)
'''
def test_y(person):
    context = ssl.create_default_context(cafile=str(person.server.certificate))
    bad = 0
    for n in range(150):
        try:
            i = imaplib.IMAP4("localhost", person.port("starttls"), timeout=30); i.starttls(context); i.capability(); i.logout()
        except Exception as e:
            bad += 1; print(e)
    print("imaplib bad", bad)
    print(subprocess.run(["/usr/bin/python3","-c",CODE,str(person.port("starttls")),str(person.server.certificate),"150"],capture_output=True,text=True).stdout[-800:])
    assert 0
