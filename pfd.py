import pstats,collections,sys
def load(n):
    s=pstats.Stats('/tmp/w/pf-'+n).stats
    return s
N=20000
for n in ('base','main'):
    s=load(n); rows=[]
    tot=sum(v[2] for v in s.values()); print(n,'total us/op',tot/N*1e6,'calls/op',sum(v[1] for v in s.values())/N)
    for (f,l,name),v in s.items(): rows.append((v[2]/N*1e6,v[1]/N,f.split('/oda/')[-1] if '/oda/' in f else f.split('site-packages/')[-1],name,l))
    rows.sort(reverse=True)
    for r in rows[:int(sys.argv[1])]: print(f"  {r[0]:6.2f} {r[1]:6.2f} {r[2]}:{r[4]} {r[3]}")
